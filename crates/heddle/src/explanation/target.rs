//! The parts of a URL that a proxy sees.

pub(super) struct Target {
    pub(super) authority: String,
    pub(super) port: u16,
    pub(super) path: String,
    pub(super) tls: bool,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let wrong = || format!("`{url}` is no URL: expected http://HOST[:PORT]/PATH or https://");
        let uri: http::Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        Ok(Self {
            authority: authority.to_string(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            tls,
        })
    }

    /// SNI: the host, unless it is an address (RFC 6066, 3).
    pub(super) fn server_name(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or(&*self.authority, |(host, _)| host);
        let address = host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
        if self.tls && !address { host } else { "" }
    }
}

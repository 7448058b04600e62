//! The ClientHello of TLS, read and left where it is: the server name and the protocols that a client asks for.

/// The longest body of a record in the clear (RFC 8446 section 5.1).
const RECORD: usize = 1 << 14;
/// How many offered protocols are looked at; more than any client means.
const PROTOCOLS: usize = 32;

/// What a client says before anything is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientHello {
    /// `server_name` (RFC 6066 section 3), lowercased.
    pub(crate) server_name: Option<Box<str>>,
    /// `application_layer_protocol_negotiation` (RFC 7301) in the client's order, without those that are no text.
    pub(crate) protocols: Vec<Box<str>>,
}

/// How far the message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    Whole(ClientHello),
    /// Not a ClientHello, or one that breaks the rules.
    Malformed,
    /// Longer than what may be read for it.
    TooLarge,
}

/// Puts a ClientHello together. It may span records, and records may come in any pieces; no byte is looked at twice.
#[derive(Debug)]
pub(crate) struct Reader {
    /// The most bytes of the message.
    most: usize,
    /// Bytes of the connection that were looked at.
    seen: usize,
    /// Bytes that the record at hand still has.
    left: usize,
    message: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, seen: 0, left: 0, message: Vec::new() }
    }

    /// Goes on with `data`, the connection's bytes from its very first on.
    pub(crate) fn read(&mut self, data: &[u8]) -> Progress {
        while let Some(rest) = data.get(self.seen..).filter(|rest| !rest.is_empty()) {
            if self.left == 0 {
                let &[kind, major, _, high, low, ..] = rest else { break };
                self.left = usize::from(u16::from_be_bytes([high, low]));
                if kind != 22 || major != 3 || self.left == 0 || self.left > RECORD {
                    return Progress::Malformed;
                }
                self.seen += 5;
                continue;
            }
            let part = &rest[..self.left.min(rest.len())];
            self.seen += part.len();
            self.left -= part.len();
            self.message.extend_from_slice(part);
            match self.whole() {
                Progress::More => {}
                progress => return progress,
            }
        }
        Progress::More
    }

    fn whole(&self) -> Progress {
        match self.message.as_slice() {
            [kind, ..] if *kind != 1 => Progress::Malformed,
            [_, a, b, c, body @ ..] => {
                let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if len > self.most {
                    return Progress::TooLarge;
                }
                match body.get(..len) {
                    Some(body) => parse(body).map_or(Progress::Malformed, Progress::Whole),
                    None => Progress::More,
                }
            }
            _ => Progress::More,
        }
    }
}

/// Bytes that are taken from the front.
struct Cursor<'d>(&'d [u8]);

impl<'d> Cursor<'d> {
    fn take(&mut self, len: usize) -> Option<&'d [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    fn short(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A vector with its length in one byte before it.
    fn of_byte(&mut self) -> Option<Cursor<'d>> {
        let len = self.byte()?;
        self.take(len.into()).map(Cursor)
    }

    /// A vector with its length in two bytes before it.
    fn of_short(&mut self) -> Option<Cursor<'d>> {
        let len = self.short()?;
        self.take(len.into()).map(Cursor)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The body of a ClientHello (RFC 8446 section 4.1.2; that of TLS 1.0 to 1.2 has the same shape).
fn parse(body: &[u8]) -> Option<ClientHello> {
    let mut body = Cursor(body);
    let _version_and_random = body.take(2 + 32)?;
    let session = body.of_byte()?;
    let suites = body.of_short()?;
    let compression = body.of_byte()?;
    if session.0.len() > 32 || suites.is_empty() || suites.0.len() % 2 != 0 || compression.is_empty() {
        return None;
    }
    let mut hello = ClientHello::default();
    if body.is_empty() {
        return Some(hello);
    }
    let mut extensions = body.of_short()?;
    let (mut named, mut offered) = (false, false);
    while !extensions.is_empty() {
        let kind = extensions.short()?;
        let mut content = extensions.of_short()?;
        match kind {
            0 if !std::mem::replace(&mut named, true) => {
                hello.server_name = Some(server_name(content.of_short()?)?);
            }
            16 if !std::mem::replace(&mut offered, true) => hello.protocols = protocols(content.of_short()?)?,
            // An extension stands once.
            0 | 16 => return None,
            _ => continue,
        }
        if !content.is_empty() {
            return None;
        }
    }
    body.is_empty().then_some(hello)
}

/// The only name of a list: RFC 6066 knows one type, and one name of each type.
fn server_name(mut list: Cursor<'_>) -> Option<Box<str>> {
    let host_name = 0;
    if list.byte()? != host_name {
        return None;
    }
    let name = list.of_short()?.0;
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let text = std::str::from_utf8(name).ok()?;
    let is_name = (1..=253).contains(&text.len()) && name.iter().all(fits);
    // Some clients name an address, although they must not.
    let good = is_name || text.parse::<std::net::IpAddr>().is_ok();
    (list.is_empty() && good).then(|| text.to_ascii_lowercase().into())
}

fn protocols(mut list: Cursor<'_>) -> Option<Vec<Box<str>>> {
    if list.is_empty() {
        return None;
    }
    let mut protocols = Vec::new();
    while !list.is_empty() {
        let name = list.of_byte().filter(|name| !name.is_empty())?.0;
        if let Ok(text) = std::str::from_utf8(name)
            && protocols.len() < PROTOCOLS
        {
            protocols.push(text.into());
        }
    }
    Some(protocols)
}

#[cfg(test)]
#[path = "hello_test.rs"]
pub(crate) mod hello_test;

//! TLS towards endpoints: what protects the way to a port of a service, from `DestinationRule`.

use std::{fmt, sync::Arc};

use heddle_resource::{
    ObjectRef,
    istio::{ClientTlsSettings, H2UpgradePolicy, TlsMode},
};
use heddle_xds::ClientKind;

use super::{
    cx::Cx,
    gateway_api::{backend_tls, certificate},
    policy::Effective,
    tls::{self, Certificate, Client, Credential, Roots, Verification},
};
use crate::{
    scope::Role,
    world::{Protocol, Service},
};

/// How connections to a port are protected.
pub(crate) enum Origination {
    Plain,
    /// By TLS, with the credentials that it takes.
    Tls(Box<Client>, Vec<Credential>),
    /// Protected in a way that cannot be had: nothing may be sent.
    Denied(Denial),
}

/// Why nothing may be sent to a destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Denial {
    /// The field that protects the traffic.
    pub(crate) of: ObjectRef,
    pub(crate) why: Arc<str>,
}

/// `DestinationRule default/a spec.trafficPolicy.tls: there is no Secret default/c`.
impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.of, self.why)
    }
}

/// What is asked for on the way to a port: at gateways by a BackendTLSPolicy of the port, else by the rule.
pub(crate) fn of(cx: &Cx<'_>, service: &Service, port: u16, effective: &Effective) -> Origination {
    if let Some(found) = by_policy(cx, service, port) {
        return found;
    }
    let (Some(settings), Some(at)) = (&effective.policy.tls, &effective.tls) else {
        return Origination::Plain;
    };
    if settings.mode == TlsMode::Disable {
        return Origination::Plain;
    }
    let spoken = service.port(port).map_or(Protocol::Tcp, |port| port.protocol);
    match settled(cx, service, spoken, settings, effective) {
        Ok((client, credentials)) => Origination::Tls(Box::new(client), credentials),
        Err((field, why)) => {
            let field =
                if field.is_empty() { at.field.clone() } else { format!("{}.{field}", at.field).into() };
            Origination::Denied(Denial { of: ObjectRef { key: at.key.clone(), field }, why })
        }
    }
}

/// What a BackendTLSPolicy asks for, if there is one. It is for gateways.
fn by_policy(cx: &Cx<'_>, service: &Service, port: u16) -> Option<Origination> {
    if !service.kubernetes {
        return None;
    }
    let entry = backend_tls::deciding(cx.backend_policies(service), service, port)?;
    if cx.role() != Role::Router {
        return None;
    }
    let http2 = service.port(port).is_some_and(|port| port.protocol.is_http2());
    let alpn: &[&str] = if http2 { &["h2"] } else { &[] };
    Some(match backend_tls::client(entry, alpn, &|credential| tls::usable(cx, credential)) {
        Ok((mut client, mut credentials)) => match certificate::shown(cx) {
            Some(Err(denial)) => Origination::Denied(denial),
            shown => {
                let own = shown.and_then(Result::ok);
                client.certificate = own.clone().map(Certificate::Sds);
                credentials.extend(own);
                Origination::Tls(Box::new(client), credentials)
            }
        },
        Err(denial) => Origination::Denied(denial),
    })
}

type Refusal = (&'static str, Arc<str>);

fn settled(
    cx: &Cx<'_>,
    service: &Service,
    spoken: Protocol,
    settings: &ClientTlsSettings,
    effective: &Effective,
) -> Result<(Client, Vec<Credential>), Refusal> {
    if settings.mode == TlsMode::IstioMutual {
        return Err(("", "ISTIO_MUTUAL needs identities, which are not built yet".into()));
    }
    if cx.client() == ClientKind::Grpc {
        return Err(("", "gRPC programs without a proxy take no TLS settings from here yet".into()));
    }
    let mut credentials = Vec::new();
    let named = !settings.credential_name.is_empty();
    if named && cx.role() != Role::Router && !effective.selects {
        let why = "Secrets go to gateways, and to sidecars that a workloadSelector of the rule selects";
        return Err(("credentialName", why.into()));
    }
    let mut take = |credential: Credential| match tls::usable(cx, &credential) {
        Ok(()) => {
            credentials.push(credential.clone());
            Ok(credential)
        }
        Err(fault) => Err(("credentialName", fault)),
    };
    let certificate = match settings.mode {
        TlsMode::Mutual if named => {
            Some(Certificate::Sds(take(Credential::pair(cx.namespace(), &settings.credential_name))?))
        }
        TlsMode::Mutual => Some(Certificate::Files {
            chain: settings.client_certificate.clone(),
            key: settings.private_key.clone(),
        }),
        _ => None,
    };
    let sni = match settings.sni.as_str() {
        "" if !service.host.starts_with('*') && service.host.parse::<std::net::IpAddr>().is_err() => {
            &*service.host
        }
        given => given,
    };
    let servers = if settings.insecure_skip_verify == Some(true) {
        None
    } else {
        let roots = if named {
            Roots::Sds(take(Credential::companion(cx.namespace(), &settings.credential_name))?)
        } else if settings.ca_certificates.is_empty() {
            Roots::System
        } else {
            Roots::File(settings.ca_certificates.clone())
        };
        let mut names = settings.subject_alt_names.clone();
        if names.is_empty() {
            let own = if sni.is_empty() { &*service.host } else { sni };
            if own.starts_with('*') {
                let why =
                    "which name the server's certificate has to hold is not known: give sni, subjectAltNames";
                return Err(("sni", why.into()));
            }
            names.push(own.to_owned());
        }
        Some(Verification { names, revoked: settings.ca_crl.clone(), ..Verification::by(roots) })
    };
    let http = effective.policy.connection_pool.as_ref().and_then(|pool| pool.http.as_ref());
    let upgraded = http.and_then(|http| http.h2_upgrade_policy) == Some(H2UpgradePolicy::Upgrade);
    let alpn: &[&str] = if spoken.is_http2() || upgraded { &["h2"] } else { &[] };
    Ok((Client { sni: sni.to_owned(), certificate, servers, alpn }, credentials))
}

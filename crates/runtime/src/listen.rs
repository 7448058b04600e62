//! What to say when an address cannot be listened on.

use std::io;
use std::net::SocketAddr;

/// What failed, at which address, and what to do about it; `what` is the flag or the object that asked for it.
pub fn cannot_listen(address: SocketAddr, what: &str, error: &io::Error) -> String {
    let port = address.port();
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another process has it, which `ss -lntup 'sport = :{port}'` shows: stop that one, or give another address (port 0 takes a free one)"
        ),
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 take root or CAP_NET_BIND_SERVICE: grant it, or give a higher port".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address, see `ip address`: give one that it has".to_owned()
        }
        _ => "give another address".to_owned(),
    };
    format!("cannot listen on {address} ({what}): {error}; {advice}")
}

#[cfg(test)]
mod listen_test {
    use super::*;

    #[test]
    fn the_message_names_the_port_and_the_way_out() {
        let said = |kind: io::ErrorKind| cannot_listen(([127, 0, 0, 1], 80).into(), "--api", &kind.into());
        let text = said(io::ErrorKind::AddrInUse);
        assert!(text.contains("127.0.0.1:80 (--api)") && text.contains("sport = :80"), "{text}");
        assert!(said(io::ErrorKind::PermissionDenied).contains("CAP_NET_BIND_SERVICE"));
        assert!(said(io::ErrorKind::AddrNotAvailable).contains("ip address"));
    }
}

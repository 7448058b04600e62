//! What systemd wants to hear (sd_notify): that the service is ready, and which process it is.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::output;

/// Tells the service manager, if there is one (`NOTIFY_SOCKET`), that this process is the service and is ready. After a
/// replacement it is another process than the manager started; the unit needs `NotifyAccess=all` for that.
pub(crate) fn ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let state = format!("READY=1\nMAINPID={}", std::process::id());
    if let Err(error) = send(&path, &state) {
        output::warning(&format!("NOTIFY_SOCKET {}: {error}", path.display()));
    }
}

fn send(path: &OsStr, state: &str) -> io::Result<()> {
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn both_kinds_of_address_are_reached() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("heddle-notify-{}", std::process::id());
        let of_name = SocketAddr::from_abstract_name(&name).unwrap();
        let (file, unnamed) =
            (UnixDatagram::bind(&path).unwrap(), UnixDatagram::bind_addr(&of_name).unwrap());
        send(path.as_os_str(), "READY=1").unwrap();
        send(OsStr::new(&format!("@{name}")), "READY=1").unwrap();
        for socket in [file, unnamed] {
            let mut text = [0; 16];
            assert_eq!(socket.recv(&mut text).unwrap(), 7);
        }
    }
}

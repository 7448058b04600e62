//! Whom programs in the namespace ask for names.

use std::{io, path::Path};

use heddle_dns::ResolvConf;
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};

use super::{V4, sys};

/// Where programs look.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Servers of the host that the C library asks instead, by a socket in the file system that no network namespace hides.
const BESIDE: [&str; 3] =
    ["/run/systemd/resolve/io.systemd.Resolve", "/run/nscd/socket", "/var/run/nscd/socket"];

/// The resolv.conf of a workload in `namespace`. The mesh's names come first; the host's search list and options stay, as
/// what the mesh does not know is asked of the host's resolvers.
pub(super) fn text(host: &str, namespace: &str, cluster_domain: &str) -> String {
    let mut search = vec![
        format!("{namespace}.svc.{cluster_domain}"),
        format!("svc.{cluster_domain}"),
        cluster_domain.to_owned(),
    ];
    for domain in ResolvConf::parse(host).search {
        if !search.contains(&domain) {
            search.push(domain);
        }
    }
    let options = host.lines().filter(|line| line.split_whitespace().next() == Some("options"));
    let mut text = format!("# by heddle run\nnameserver {V4}\nsearch {}\n", search.join(" "));
    for line in options {
        text += line;
        text.push('\n');
    }
    text
}

/// Gives this process a mount namespace of its own, in which `file` is the resolv.conf.
///
/// # Errors
/// What was tried, and the kernel's answer.
pub(super) fn replace(file: &Path) -> Result<(), (String, io::Error)> {
    sys::unshare(sys::Namespaces::Mounts).map_err(|e| ("making a mount namespace".to_owned(), e))?;
    cover(file)
}

/// The same in the mount namespace that this process has already, which must not be the host's.
pub(super) fn cover(file: &Path) -> Result<(), (String, io::Error)> {
    // What is mounted here must not come back to the host; what the host mounts is still seen.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|e| ("keeping mounts from the host".to_owned(), e.into()))?;
    mount_bind(file, RESOLV_CONF)
        .map_err(|e| (format!("putting a file of its own over {RESOLV_CONF}"), e.into()))?;
    for socket in BESIDE.into_iter().filter(|socket| Path::new(socket).exists()) {
        mount_bind("/dev/null", socket).map_err(|e| (format!("hiding {socket}"), e.into()))?;
    }
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_mesh_comes_first_and_the_host_s_settings_stay() {
        let host = "nameserver 192.0.2.1\nsearch corp.example svc.cluster.local\noptions ndots:2 rotate\n";
        assert_eq!(
            text(host, "shop", "cluster.local"),
            "# by heddle run\nnameserver 169.254.101.1\nsearch shop.svc.cluster.local svc.cluster.local cluster.local \
             corp.example\noptions ndots:2 rotate\n"
        );
    }
}

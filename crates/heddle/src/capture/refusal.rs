//! Why there is no namespace, and what can be done about it.

use std::fmt;

/// What failed, why, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    step: String,
    cause: String,
    remedy: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.step, self.cause, self.remedy)
    }
}

/// Settings of the kernel that forbid user namespaces, their forbidding value, and how to allow them.
const FORBIDDING: [(&str, &str, &str); 3] = [
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for heddle with `userns`",
    ),
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
];

impl Refusal {
    /// `denied`: the system refused, rather than that something went wrong. `read` reads a file.
    pub(super) fn new(
        step: impl Into<String>,
        cause: impl fmt::Display,
        denied: bool,
        read: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let (step, cause) = (step.into(), cause.to_string());
        let remedy = if step.contains("nft") {
            "install nftables (`apt install nftables`, `dnf install nftables`)".to_owned()
        } else if step.contains("/etc/resolv.conf") {
            "is there such a file? an empty one will do".to_owned()
        } else if step.starts_with("redirecting") {
            "has this kernel nf_tables with NAT (`modprobe nft_nat`)?".to_owned()
        } else if !denied {
            "run with --log debug for more".to_owned()
        } else {
            let forbids = |(file, value, _): &&(&str, &str, &str)| {
                read(file).is_some_and(|found| found.trim() == *value)
            };
            match FORBIDDING.iter().find(forbids) {
                Some((.., remedy)) => format!("run it as root, or allow user namespaces: {remedy}"),
                None => "run it as root; in a container, with CAP_SYS_ADMIN or with user namespaces allowed"
                    .to_owned(),
            }
        };
        Self { step, cause, remedy }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_setting_that_forbids_is_named() {
        let of = |file: &'static str, value: &'static str| {
            let read = move |asked: &str| (asked == file).then(|| format!("{value}\n"));
            Refusal::new("making a user namespace, not being root", "No space left", true, read).to_string()
        };
        for (file, value, remedy) in FORBIDDING {
            assert!(of(file, value).contains(remedy), "{file}");
        }
        let allowed = of(FORBIDDING[0].0, "1");
        assert!(allowed.contains("as root") && !allowed.contains("sysctl"), "{allowed}");
    }

    #[test]
    fn an_absent_nft_is_to_be_installed() {
        let refusal = Refusal::new("looking for nft", "it is not on the path", false, |_| None);
        assert!(refusal.to_string().contains("install nftables"), "{refusal}");
    }
}

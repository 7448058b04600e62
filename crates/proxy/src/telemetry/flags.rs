//! Envoy's response flags.

/// A set of response flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Flags(u32);

/// Bit and name. Envoy prints them in the order in which it sets them.
const NAMES: [(Flags, &str); 17] = [
    (Flags::DELAY_INJECTED, "DI"),
    (Flags::FAULT_INJECTED, "FI"),
    (Flags::RETRY_LIMIT, "URX"),
    (Flags::NO_HEALTHY_UPSTREAM, "UH"),
    (Flags::UPSTREAM_CONNECT_FAILURE, "UF"),
    (Flags::UPSTREAM_TIMEOUT, "UT"),
    (Flags::LOCAL_RESET, "LR"),
    (Flags::UPSTREAM_RESET, "UR"),
    (Flags::UPSTREAM_TERMINATED, "UC"),
    (Flags::UPSTREAM_OVERFLOW, "UO"),
    (Flags::NO_ROUTE, "NR"),
    (Flags::DOWNSTREAM_TERMINATED, "DC"),
    (Flags::STREAM_IDLE_TIMEOUT, "SI"),
    (Flags::DOWNSTREAM_PROTOCOL_ERROR, "DPE"),
    (Flags::UPSTREAM_PROTOCOL_ERROR, "UPE"),
    (Flags::NO_CLUSTER, "NC"),
    (Flags::OVERLOAD, "OM"),
];

/// The long names, in the order of [`NAMES`].
const LONG: [&str; NAMES.len()] = [
    "DelayInjected",
    "FaultInjected",
    "UpstreamRetryLimitExceeded",
    "NoHealthyUpstream",
    "UpstreamConnectionFailure",
    "UpstreamRequestTimeout",
    "LocalReset",
    "UpstreamRemoteReset",
    "UpstreamConnectionTermination",
    "UpstreamOverflow",
    "NoRouteFound",
    "DownstreamConnectionTermination",
    "StreamIdleTimeout",
    "DownstreamProtocolError",
    "UpstreamProtocolError",
    "NoClusterFound",
    "OverloadManagerTerminated",
];

impl Flags {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const NO_HEALTHY_UPSTREAM: Self = Self(1);
    pub(crate) const UPSTREAM_CONNECT_FAILURE: Self = Self(1 << 1);
    pub(crate) const UPSTREAM_TIMEOUT: Self = Self(1 << 2);
    pub(crate) const LOCAL_RESET: Self = Self(1 << 3);
    pub(crate) const UPSTREAM_RESET: Self = Self(1 << 4);
    pub(crate) const UPSTREAM_TERMINATED: Self = Self(1 << 5);
    pub(crate) const UPSTREAM_OVERFLOW: Self = Self(1 << 6);
    pub(crate) const NO_ROUTE: Self = Self(1 << 7);
    pub(crate) const DELAY_INJECTED: Self = Self(1 << 8);
    pub(crate) const FAULT_INJECTED: Self = Self(1 << 9);
    pub(crate) const DOWNSTREAM_TERMINATED: Self = Self(1 << 10);
    pub(crate) const RETRY_LIMIT: Self = Self(1 << 11);
    pub(crate) const STREAM_IDLE_TIMEOUT: Self = Self(1 << 12);
    pub(crate) const DOWNSTREAM_PROTOCOL_ERROR: Self = Self(1 << 13);
    pub(crate) const UPSTREAM_PROTOCOL_ERROR: Self = Self(1 << 14);
    pub(crate) const NO_CLUSTER: Self = Self(1 << 15);
    pub(crate) const OVERLOAD: Self = Self(1 << 16);

    /// The flag of that name; none for an unknown or empty one.
    pub(crate) fn named(name: &str) -> Self {
        NAMES.iter().find(|(_, known)| *known == name).map_or(Self::NONE, |(flag, _)| *flag)
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Those of these that are set.
    pub(crate) fn only(self, these: Self) -> Self {
        Self(self.0 & these.0)
    }

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Written by their long names.
    pub(crate) fn long(self) -> impl std::fmt::Display {
        std::fmt::from_fn(move |f| {
            self.names(f, NAMES.iter().zip(LONG).map(|((flag, _), name)| (*flag, name)))
        })
    }

    fn names(
        self,
        f: &mut std::fmt::Formatter<'_>,
        names: impl Iterator<Item = (Self, &'static str)>,
    ) -> std::fmt::Result {
        let mut first = true;
        for (_, name) in names.filter(|(flag, _)| self.has(*flag)) {
            write!(f, "{}{name}", if first { "" } else { "," })?;
            first = false;
        }
        if first { f.write_str("-") } else { Ok(()) }
    }

    /// No flag is set.
    pub(crate) fn is_none(self) -> bool {
        self == Self::NONE
    }
}

impl std::fmt::Display for Flags {
    /// `-` for none, else the names separated by commas.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.names(f, NAMES.iter().copied())
    }
}

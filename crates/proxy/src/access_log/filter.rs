//! Which requests get a line (`config.accesslog.v3.AccessLogFilter`).

use super::Entry;
use crate::decide::grpc_status_of;
use crate::decide::matching::{Fraction, HeaderMatcher};
use crate::telemetry::Flags;

/// A filter.
#[derive(Clone, Debug)]
pub(crate) enum Filter {
    /// `status_code_filter`.
    Status(Comparison),
    /// `duration_filter`, in milliseconds.
    Duration(Comparison),
    /// `not_health_check_filter`: nothing here answers health checks of others.
    NotHealthCheck,
    /// `runtime_filter`, where nothing says otherwise: this share of them.
    Share(Fraction),
    /// `and_filter`.
    All(Box<[Filter]>),
    /// `or_filter`.
    Any(Box<[Filter]>),
    /// `header_filter`: of the request.
    Header(Box<HeaderMatcher>),
    /// `response_flag_filter`: one of these; none given: any.
    Flags { any: bool, of: Flags },
    /// `grpc_status_filter`.
    Grpc { statuses: Box<[u32]>, exclude: bool },
}

/// `ComparisonFilter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) op: Op,
    pub(crate) value: u64,
}

/// `ComparisonFilter.Op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Equal,
    AtLeast,
    AtMost,
    NotEqual,
}

impl Comparison {
    fn holds(self, of: u64) -> bool {
        match self.op {
            Op::Equal => of == self.value,
            Op::AtLeast => of >= self.value,
            Op::AtMost => of <= self.value,
            Op::NotEqual => of != self.value,
        }
    }
}

impl Filter {
    /// Whether there is to be a line.
    pub(super) fn takes(&self, entry: &Entry<'_>, random: impl Fn() -> u64 + Copy) -> bool {
        let record = entry.record;
        match self {
            Self::Status(wanted) => wanted.holds(record.code.into()),
            Self::Duration(wanted) => {
                wanted.holds(u64::try_from(entry.lasted().as_millis()).unwrap_or(u64::MAX))
            }
            Self::NotHealthCheck => true,
            Self::Share(share) => share.hit(random()),
            Self::All(filters) => filters.iter().all(|filter| filter.takes(entry, random)),
            Self::Any(filters) => filters.iter().any(|filter| filter.takes(entry, random)),
            Self::Header(wanted) => entry.request.is_some_and(|request| wanted.is_match(request)),
            Self::Flags { any: true, .. } => record.flags != Flags::NONE,
            Self::Flags { of, .. } => record.flags.has(*of),
            Self::Grpc { statuses, exclude } => {
                let status = record.grpc_status.map_or_else(|| grpc_status_of_http(record.code), u32::from);
                statuses.contains(&status) != *exclude
            }
        }
    }
}

/// What a response without `grpc-status` is to gRPC.
fn grpc_status_of_http(status: u16) -> u32 {
    if status == 200 { 0 } else { grpc_status_of(status) }
}

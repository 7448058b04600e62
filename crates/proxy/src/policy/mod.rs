//! May this request go upstream? Authentication, authorization and limits answer here.

use crate::decide::Downstream;
use crate::http::head::RequestHead;
use crate::snapshot::Cluster;

/// Proof that the policy step allowed a request: nothing is sent to an endpoint without one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permit(());

/// Decides about one request. No kind of policy is built yet, so every request is allowed; configuration that would
/// restrict access is refused when it arrives (`snapshot` denies its traffic), never dropped here.
pub(crate) fn on_request(_downstream: &Downstream, _head: &RequestHead, _cluster: &Cluster) -> Permit {
    Permit(())
}

/// The same for a connection whose protocol is not HTTP.
pub(crate) fn on_connection(_cluster: &Cluster) -> Permit {
    Permit(())
}

//! Gateway API kinds.

mod backend_tls;
mod filter;
mod listener;
mod route;

pub use backend_tls::*;
pub use filter::*;
pub use listener::*;
pub use route::*;

use crate::schema::described;

described! {
    /// A status condition as Kubernetes has it.
    pub struct Condition {
        /// Name of the condition.
        acts "type" type_: String, required;
        /// `True`, `False` or `Unknown`.
        acts "status" status: String, required;
        /// The generation that it speaks of.
        acts "observedGeneration" observed_generation: Option<i64>;
        /// When the status last changed.
        acts "lastTransitionTime" last_transition_time: String;
        /// One word for machines.
        acts "reason" reason: String, required;
        /// For people.
        acts "message" message: String;
    }

    /// Names a Secret.
    pub struct ObjectReference {
        /// API group; absent: core.
        acts "group" group: Option<String>;
        /// Kind; absent: `Secret`.
        acts "kind" kind: Option<String>;
        /// Name.
        acts "name" name: String, required;
        /// Namespace; absent: that of the object. Another one needs a ReferenceGrant.
        acts "namespace" namespace: Option<String>;
    }

    /// A receiver without a share.
    pub struct BackendReference {
        /// API group; absent: core.
        acts "group" group: Option<String>;
        /// Kind; absent: `Service`.
        acts "kind" kind: Option<String>;
        /// Name.
        acts "name" name: String, required;
        /// Namespace; absent: the route's. Another one needs a ReferenceGrant.
        acts "namespace" namespace: Option<String>;
        /// Port of the Service.
        acts "port" port: Option<u16>;
    }

    /// Lets objects of other namespaces refer to objects of this one.
    pub struct ReferenceGrant {
        /// What is wanted.
        acts "spec" spec: ReferenceGrantSpec, required;
    }

    /// `spec` of a ReferenceGrant.
    pub struct ReferenceGrantSpec {
        /// Who may refer.
        acts "from" from: Vec<GrantFrom>, required;
        /// To what.
        acts "to" to: Vec<GrantTo>, required;
    }

    /// Who may refer.
    pub struct GrantFrom {
        /// API group.
        acts "group" group: String, required;
        /// Kind.
        acts "kind" kind: String, required;
        /// Namespace.
        acts "namespace" namespace: String, required;
    }

    /// To what may be referred.
    pub struct GrantTo {
        /// API group.
        acts "group" group: String, required;
        /// Kind.
        acts "kind" kind: String, required;
        /// Name; absent: all.
        acts "name" name: Option<String>;
    }
}

//! Gateway API objects in the form in which they are judged: names resolved, defaults filled in, and the
//! four kinds of route in one shape.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc, time::Duration};

use heddle_resource::Key;

use super::hostname::Hostname;

/// API group of everything here.
pub(crate) const GROUP: &str = "gateway.networking.k8s.io";

/// The kinds of route.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum RouteKind {
    Http,
    Grpc,
    Tcp,
    Tls,
}

impl RouteKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
            Self::Tcp => "TCPRoute",
            Self::Tls => "TLSRoute",
        }
    }
}

/// A Gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Gateway {
    pub(crate) key: Key,
    pub(crate) generation: i64,
    pub(crate) class: String,
    /// Its own; once it is judged, also those of its ListenerSets, in order of precedence.
    pub(crate) listeners: Vec<Listener>,
    /// `spec.allowedListeners`: namespaces whose ListenerSets may attach.
    pub(crate) allowed_sets: From,
    pub(crate) addresses: Vec<Address>,
    /// `spec.infrastructure.parametersRef`, as `KIND NAME`.
    pub(crate) parameters: Option<String>,
    pub(crate) frontend: Frontend,
    /// `spec.tls.backend.clientCertificateRef`.
    pub(crate) own: Option<Reference>,
}

/// `spec.tls.frontend`: how clients are verified.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Frontend {
    pub(crate) default: Option<Validation>,
    /// In place of the default; nothing: nobody is verified on that port.
    pub(crate) per_port: Vec<(u16, Option<Validation>)>,
}

impl Frontend {
    /// What holds on a port, and the field that says so.
    pub(crate) fn at(&self, port: u16) -> Option<(&Validation, String)> {
        match self.per_port.iter().enumerate().find(|(_, (own, _))| *own == port) {
            Some((n, (_, own))) => {
                own.as_ref().map(|own| (own, format!("spec.tls.frontend.perPort[{n}].tls.validation")))
            }
            None => self.default.as_ref().map(|own| (own, "spec.tls.frontend.default.validation".to_owned())),
        }
    }
}

/// Authorities that clients are verified by.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Validation {
    pub(crate) authorities: Vec<Reference>,
    /// `AllowInsecureFallback`: whoever fails is let in all the same.
    pub(crate) insecure: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Address {
    pub(crate) kind: String,
    pub(crate) value: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Listener {
    /// Unique among those of its owner.
    pub(crate) name: String,
    /// The ListenerSet that it is of; none: the Gateway.
    pub(crate) set: Option<Key>,
    pub(crate) port: u16,
    pub(crate) protocol: String,
    pub(crate) hostname: Hostname,
    pub(crate) from: From,
    /// `allowedRoutes.kinds`: group and kind. Empty: those of the protocol.
    pub(crate) kinds: Vec<(String, String)>,
    pub(crate) tls: Option<Tls>,
}

impl Listener {
    /// A name that no other listener of the Gateway has. Names have no slash.
    pub(crate) fn label(&self) -> Cow<'_, str> {
        match &self.set {
            None => Cow::Borrowed(&self.name),
            Some(set) => Cow::Owned(format!("{}/{}/{}", set.namespace, set.name, self.name)),
        }
    }

    /// The object that declares it.
    pub(crate) fn owner<'a>(&'a self, gateway: &'a Gateway) -> &'a Key {
        self.set.as_ref().unwrap_or(&gateway.key)
    }
}

/// A listener's `tls`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tls {
    pub(crate) passthrough: bool,
    pub(crate) certificates: Vec<Reference>,
    /// `frontendValidation`, the old form, which is not built.
    pub(crate) old_validation: bool,
}

/// Namespaces whose routes, or whose ListenerSets, may attach.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum From {
    #[default]
    Same,
    All,
    None,
    Selector(Vec<Requirement>),
}

/// One requirement of a label selector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
    /// An operator that does not exist: selects nothing.
    Never,
}

impl Requirement {
    pub(crate) fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
            Self::Never => false,
        }
    }
}

/// An HTTPRoute, GRPCRoute, TCPRoute or TLSRoute.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Route {
    pub(crate) kind: RouteKind,
    pub(crate) key: Key,
    pub(crate) generation: i64,
    /// RFC 3339, so that the order of text is the order of time; empty where no store has seen it.
    pub(crate) created: String,
    /// Empty: every name.
    pub(crate) hostnames: Vec<Hostname>,
    pub(crate) parents: Vec<ParentRef>,
    pub(crate) rules: Vec<Rule>,
}

impl Route {
    /// Order among equals: the older, then by namespace and name. Objects without a time come first:
    /// they are files, which no store has dated.
    pub(crate) fn seniority(&self) -> (&str, &Arc<str>, &Arc<str>, RouteKind) {
        (&self.created, &self.key.namespace, &self.key.name, self.kind)
    }
}

/// A route's reference to a parent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ParentRef {
    pub(crate) group: String,
    pub(crate) kind: String,
    /// As written; the route's own where absent.
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) section: Option<String>,
    pub(crate) port: Option<u16>,
}

impl ParentRef {
    pub(crate) fn is_gateway(&self) -> bool {
        self.group == GROUP && self.kind == "Gateway"
    }

    pub(crate) fn is_listener_set(&self) -> bool {
        self.group == GROUP && self.kind == "ListenerSet"
    }

    /// A mesh route's parent: a core Service.
    pub(crate) fn is_service(&self) -> bool {
        self.group.is_empty() && self.kind == "Service"
    }

    pub(crate) fn namespace<'a>(&'a self, route: &'a Route) -> &'a str {
        self.namespace.as_deref().unwrap_or(&route.key.namespace)
    }
}

/// A reference to another object, its namespace resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Reference {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// One rule of a route.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Rule {
    pub(crate) name: Option<String>,
    /// Never empty for HTTP and gRPC: a rule without matches has the one that matches all.
    pub(crate) matches: Vec<Match>,
    pub(crate) filters: Vec<Filter>,
    pub(crate) backends: Vec<Backend>,
    /// `timeouts.request`; zero switches off.
    pub(crate) timeout: Option<Duration>,
    /// `timeouts.backendRequest`: of each attempt.
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) retry: Option<Retry>,
    /// A field that is valid, restricts traffic and is not built: every request is answered 503 naming it.
    pub(crate) denied: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Match {
    pub(crate) path: Path,
    /// For a GRPCRoute: how many characters of the service and of the method are named, which is what
    /// precedence goes by there.
    pub(crate) rpc: Option<(usize, usize)>,
    pub(crate) method: Option<String>,
    pub(crate) headers: Vec<(String, Text)>,
    pub(crate) query: Vec<(String, Text)>,
}

/// How a path matches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Path {
    Exact(String),
    /// By segments, without a slash at the end: `/a` matches `/a` and `/a/b`, not `/ab`. Empty: all.
    Prefix(String),
    /// The whole path.
    Regex(String),
}

impl Default for Path {
    fn default() -> Self {
        Self::Prefix(String::new())
    }
}

/// How a header or a query parameter matches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Text {
    Exact(String),
    Regex(String),
}

/// `retry` of an HTTPRoute rule.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Retry {
    pub(crate) codes: Vec<u32>,
    pub(crate) attempts: Option<u32>,
    pub(crate) backoff: Option<Duration>,
}

/// One of a rule's backends.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Backend {
    pub(crate) to: Reference,
    pub(crate) port: Option<u16>,
    pub(crate) weight: u32,
    pub(crate) filters: Vec<Filter>,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Filter {
    RequestHeaders(HeaderEdit),
    ResponseHeaders(HeaderEdit),
    Redirect(Redirect),
    Rewrite {
        host: Option<String>,
        path: Option<PathEdit>,
    },
    Mirror {
        backend: Backend,
        share: Share,
    },
    Cors(Cors),
    /// A filter that cannot be applied: its requests are answered with an error.
    Unknown {
        kind: String,
        reference: Option<Reference>,
    },
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct HeaderEdit {
    pub(crate) set: Vec<(String, String)>,
    pub(crate) add: Vec<(String, String)>,
    pub(crate) remove: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Redirect {
    pub(crate) scheme: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) path: Option<PathEdit>,
    pub(crate) port: Option<u16>,
    /// 302 where none is given.
    pub(crate) status: Option<u16>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum PathEdit {
    Full(String),
    Prefix(String),
}

/// A share of requests: `numerator` of `denominator`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Share {
    pub(crate) numerator: u32,
    pub(crate) denominator: u32,
}

impl Default for Share {
    fn default() -> Self {
        Self { numerator: 1, denominator: 1 }
    }
}

impl Share {
    /// In parts of a million, rounded down.
    pub(crate) fn millionths(self) -> u32 {
        let share = u64::from(self.numerator) * 1_000_000 / u64::from(self.denominator.max(1));
        u32::try_from(share.min(1_000_000)).unwrap_or(1_000_000)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Cors {
    pub(crate) origins: Vec<String>,
    pub(crate) credentials: bool,
    pub(crate) methods: Vec<String>,
    pub(crate) headers: Vec<String>,
    pub(crate) expose: Vec<String>,
    /// Seconds; 5 where none is given.
    pub(crate) max_age: Option<i64>,
}

/// A ReferenceGrant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Grant {
    pub(crate) namespace: String,
    /// Group, kind, namespace.
    pub(crate) from: Vec<(String, String, String)>,
    /// Group, kind, and the one name it is limited to.
    pub(crate) to: Vec<(String, String, Option<String>)>,
}

impl Grant {
    /// Whether an object of that kind in that namespace may refer to `to`.
    pub(crate) fn permits(&self, group: &str, kind: &str, namespace: &str, to: &Reference) -> bool {
        self.namespace == to.namespace
            && self.from.iter().any(|(g, k, n)| g == group && k == kind && n == namespace)
            && self.to.iter().any(|(g, k, name)| {
                *g == to.group && *k == to.kind && name.as_ref().is_none_or(|name| *name == to.name)
            })
    }
}

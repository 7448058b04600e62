//! The messages that are read. Field numbers are those of Kubernetes' `generated.proto` files.

/// How a field reads.
#[derive(Clone, Copy)]
pub(super) enum Type {
    Text,
    Int,
    /// Absent when false.
    Flag,
    /// Said when false too.
    Choice,
    Time,
    IntOrString,
    /// JSON within bytes within a message.
    Fields,
    Message(&'static [Field]),
    TextMap,
    /// Values shown in base64.
    BytesMap,
}

pub(super) struct Field {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) of: Type,
    pub(super) list: bool,
}

pub(super) const fn one(number: u32, name: &'static str, of: Type) -> Field {
    Field { number, name, of, list: false }
}

const fn many(number: u32, name: &'static str, of: Type) -> Field {
    Field { number, name, of, list: true }
}

use Type::{BytesMap, Choice, Fields, Flag, Int, IntOrString, Message, Text, TextMap, Time};

const OWNER: &[Field] = &[
    one(1, "kind", Text),
    one(3, "name", Text),
    one(4, "uid", Text),
    one(5, "apiVersion", Text),
    one(6, "controller", Choice),
    one(7, "blockOwnerDeletion", Choice),
];
const MANAGED: &[Field] = &[
    one(1, "manager", Text),
    one(2, "operation", Text),
    one(3, "apiVersion", Text),
    one(4, "time", Time),
    one(6, "fieldsType", Text),
    one(7, "fieldsV1", Fields),
    one(8, "subresource", Text),
];
const META: &[Field] = &[
    one(1, "name", Text),
    one(2, "generateName", Text),
    one(3, "namespace", Text),
    one(4, "selfLink", Text),
    one(5, "uid", Text),
    one(6, "resourceVersion", Text),
    one(7, "generation", Int),
    one(8, "creationTimestamp", Time),
    one(9, "deletionTimestamp", Time),
    one(10, "deletionGracePeriodSeconds", Int),
    one(11, "labels", TextMap),
    one(12, "annotations", TextMap),
    many(13, "ownerReferences", Message(OWNER)),
    many(14, "finalizers", Text),
    many(17, "managedFields", Message(MANAGED)),
];
const CONDITION: &[Field] = &[
    one(1, "type", Text),
    one(2, "status", Text),
    one(3, "observedGeneration", Int),
    one(4, "lastTransitionTime", Time),
    one(5, "reason", Text),
    one(6, "message", Text),
];
const NAMESPACE: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(2, "spec", Message(&[many(1, "finalizers", Text)])),
    one(3, "status", Message(&[one(1, "phase", Text)])),
];
const CONFIG_MAP: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(2, "data", TextMap),
    one(3, "binaryData", BytesMap),
    one(4, "immutable", Choice),
];
const SECRET: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(2, "data", BytesMap),
    one(3, "type", Text),
    one(4, "stringData", TextMap),
    one(5, "immutable", Choice),
];
const SERVICE_PORT: &[Field] = &[
    one(1, "name", Text),
    one(2, "protocol", Text),
    one(3, "port", Int),
    one(4, "targetPort", IntOrString),
    one(5, "nodePort", Int),
    one(6, "appProtocol", Text),
];
const SERVICE_SPEC: &[Field] = &[
    many(1, "ports", Message(SERVICE_PORT)),
    one(2, "selector", TextMap),
    one(3, "clusterIP", Text),
    one(4, "type", Text),
    many(5, "externalIPs", Text),
    one(7, "sessionAffinity", Text),
    one(8, "loadBalancerIP", Text),
    many(9, "loadBalancerSourceRanges", Text),
    one(10, "externalName", Text),
    one(11, "externalTrafficPolicy", Text),
    one(12, "healthCheckNodePort", Int),
    one(13, "publishNotReadyAddresses", Flag),
    one(
        14,
        "sessionAffinityConfig",
        Message(&[one(1, "clientIP", Message(&[one(1, "timeoutSeconds", Int)]))]),
    ),
    one(17, "ipFamilyPolicy", Text),
    many(18, "clusterIPs", Text),
    many(19, "ipFamilies", Text),
    one(20, "allocateLoadBalancerNodePorts", Choice),
    one(21, "loadBalancerClass", Text),
    one(22, "internalTrafficPolicy", Text),
    one(23, "trafficDistribution", Text),
];
const INGRESS: &[Field] = &[one(1, "ip", Text), one(2, "hostname", Text), one(3, "ipMode", Text)];
const SERVICE_STATUS: &[Field] = &[
    one(1, "loadBalancer", Message(&[many(1, "ingress", Message(INGRESS))])),
    many(2, "conditions", Message(CONDITION)),
];
const SERVICE: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(2, "spec", Message(SERVICE_SPEC)),
    one(3, "status", Message(SERVICE_STATUS)),
];
const REFERENCE: &[Field] = &[
    one(1, "kind", Text),
    one(2, "namespace", Text),
    one(3, "name", Text),
    one(4, "uid", Text),
    one(5, "apiVersion", Text),
    one(6, "resourceVersion", Text),
    one(7, "fieldPath", Text),
];
const SERVICE_ACCOUNT: &[Field] = &[
    one(1, "metadata", Message(META)),
    many(2, "secrets", Message(REFERENCE)),
    many(3, "imagePullSecrets", Message(&[one(1, "name", Text)])),
    one(4, "automountServiceAccountToken", Choice),
];
const EVENT: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(2, "involvedObject", Message(REFERENCE)),
    one(3, "reason", Text),
    one(4, "message", Text),
    one(5, "source", Message(&[one(1, "component", Text), one(2, "host", Text)])),
    one(6, "firstTimestamp", Time),
    one(7, "lastTimestamp", Time),
    one(8, "count", Int),
    one(9, "type", Text),
    one(10, "eventTime", Time),
    one(12, "action", Text),
    one(13, "related", Message(REFERENCE)),
    one(14, "reportingComponent", Text),
    one(15, "reportingInstance", Text),
];
const ENDPOINT: &[Field] = &[
    many(1, "addresses", Text),
    one(
        2,
        "conditions",
        Message(&[one(1, "ready", Choice), one(2, "serving", Choice), one(3, "terminating", Choice)]),
    ),
    one(3, "hostname", Text),
    one(4, "targetRef", Message(REFERENCE)),
    one(5, "deprecatedTopology", TextMap),
    one(6, "nodeName", Text),
    one(7, "zone", Text),
    one(8, "hints", Message(&[many(1, "forZones", Message(&[one(1, "name", Text)]))])),
];
const ENDPOINT_SLICE: &[Field] = &[
    one(1, "metadata", Message(META)),
    many(2, "endpoints", Message(ENDPOINT)),
    many(
        3,
        "ports",
        Message(&[
            one(1, "name", Text),
            one(2, "protocol", Text),
            one(3, "port", Int),
            one(4, "appProtocol", Text),
        ]),
    ),
    one(4, "addressType", Text),
];
const ATTRIBUTES: &[Field] = &[
    one(1, "namespace", Text),
    one(2, "verb", Text),
    one(3, "group", Text),
    one(4, "version", Text),
    one(5, "resource", Text),
    one(6, "subresource", Text),
    one(7, "name", Text),
];
const ACCESS_REVIEW: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(
        2,
        "spec",
        Message(&[
            one(1, "resourceAttributes", Message(ATTRIBUTES)),
            one(2, "nonResourceAttributes", Message(&[one(1, "path", Text), one(2, "verb", Text)])),
        ]),
    ),
];
const RULES_REVIEW: &[Field] =
    &[one(1, "metadata", Message(META)), one(2, "spec", Message(&[one(1, "namespace", Text)]))];
const SELF_REVIEW: &[Field] = &[one(1, "metadata", Message(META))];
const DELETE_OPTIONS: &[Field] = &[
    one(1, "gracePeriodSeconds", Int),
    one(2, "preconditions", Message(&[one(1, "uid", Text), one(2, "resourceVersion", Text)])),
    one(3, "orphanDependents", Choice),
    one(4, "propagationPolicy", Text),
    many(5, "dryRun", Text),
];

pub(super) fn message_of(api_version: &str, kind: &str) -> Option<&'static [Field]> {
    match (api_version, kind) {
        ("v1", "Namespace") => Some(NAMESPACE),
        ("v1", "ConfigMap") => Some(CONFIG_MAP),
        ("v1", "Secret") => Some(SECRET),
        ("v1", "Service") => Some(SERVICE),
        ("v1", "ServiceAccount") => Some(SERVICE_ACCOUNT),
        ("v1", "Event") => Some(EVENT),
        ("discovery.k8s.io/v1", "EndpointSlice") => Some(ENDPOINT_SLICE),
        ("authorization.k8s.io/v1", "SelfSubjectAccessReview") => Some(ACCESS_REVIEW),
        ("authorization.k8s.io/v1", "SelfSubjectRulesReview") => Some(RULES_REVIEW),
        ("authentication.k8s.io/v1", "SelfSubjectReview") => Some(SELF_REVIEW),
        (_, "DeleteOptions") => Some(DELETE_OPTIONS),
        _ => None,
    }
}

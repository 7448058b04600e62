//! Which groups, versions and resources there are: plain and aggregated.

use heddle_resource::{Kind, kinds};
use serde_json::{Value, json};

use crate::{meta, version::api_version, virtuals};

/// Every verb that stored resources take.
pub(crate) const VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

/// A resource as discovery tells of it, stored or not.
pub(crate) struct Listed {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) namespaced: bool,
    pub(crate) verbs: &'static [&'static str],
    pub(crate) short_names: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    pub(crate) status: bool,
    /// With renewals by the subresource `lease`.
    pub(crate) lease: bool,
    /// The version in which its group is best spoken.
    pub(crate) preferred: bool,
}

/// Every resource in every served version.
pub(crate) fn listed() -> Vec<Listed> {
    let mut all = Vec::new();
    for kind in kinds() {
        for version in kind.served {
            all.push(Listed {
                group: kind.group,
                version,
                plural: kind.plural,
                singular: kind.singular,
                kind: kind.kind,
                namespaced: kind.namespaced,
                verbs: &VERBS,
                short_names: kind.short_names,
                categories: categories(kind),
                status: meta::has_status(kind),
                lease: kind.kind == "WorkloadEntry",
                preferred: *version == kind.version,
            });
        }
    }
    all.extend(virtuals::listed());
    all
}

/// By which `kubectl get CATEGORY` finds a kind, as the CRDs of Istio and Gateway API say.
fn categories(kind: &Kind) -> &'static [&'static str] {
    match kind.group {
        "networking.istio.io" => &["istio-io", "networking-istio-io"],
        "gateway.networking.k8s.io" => &["gateway-api"],
        _ if matches!(kind.kind, "Service" | "Pod") => &["all"],
        _ => &[],
    }
}

/// The groups in the order of the table of kinds, the core group (empty) first.
pub(crate) fn groups() -> Vec<&'static str> {
    let mut groups = vec![""];
    for resource in listed() {
        if !groups.contains(&resource.group) {
            groups.push(resource.group);
        }
    }
    groups
}

/// The versions of a group, the preferred first, then stable before beta before alpha.
pub(crate) fn versions(group: &str) -> Vec<&'static str> {
    let mut versions: Vec<(&'static str, bool)> = Vec::new();
    for resource in listed().iter().filter(|r| r.group == group) {
        match versions.iter_mut().find(|(v, _)| *v == resource.version) {
            Some((_, preferred)) => *preferred |= resource.preferred,
            None => versions.push((resource.version, resource.preferred)),
        }
    }
    versions.sort_by_key(|(version, _)| rank(version));
    versions.into_iter().map(|(version, _)| version).collect()
}

/// `v2`, `v1`, `v1beta1`, `v1alpha3`, as Kubernetes orders them.
fn rank(version: &str) -> (u8, std::cmp::Reverse<u32>, std::cmp::Reverse<u32>) {
    let number = |text: &str| text.parse().unwrap_or(0);
    let rest = version.strip_prefix('v').unwrap_or(version);
    let (level, major, minor) = if let Some((major, minor)) = rest.split_once("beta") {
        (1, number(major), number(minor))
    } else if let Some((major, minor)) = rest.split_once("alpha") {
        (2, number(major), number(minor))
    } else {
        (0, number(rest), 0)
    };
    (level, std::cmp::Reverse(major), std::cmp::Reverse(minor))
}

/// `GET /api`
pub(crate) fn core_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": versions(""),
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }],
    })
}

/// `GET /apis`
pub(crate) fn group_list() -> Value {
    let groups: Vec<Value> = groups().into_iter().filter(|g| !g.is_empty()).map(group_entry).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `GET /apis/GROUP`; `None`: no such group.
pub(crate) fn group(name: &str) -> Option<Value> {
    let group = groups().into_iter().find(|g| *g == name && !g.is_empty())?;
    let mut entry = group_entry(group);
    entry["kind"] = "APIGroup".into();
    entry["apiVersion"] = "v1".into();
    Some(entry)
}

fn group_entry(group: &str) -> Value {
    let told = |version: &&str| json!({ "groupVersion": api_version(group, version), "version": version });
    let versions = versions(group);
    json!({
        "name": group,
        "versions": versions.iter().map(told).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(told),
    })
}

/// `GET /apis/GROUP/VERSION`; `None`: nothing is served there.
pub(crate) fn resource_list(group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for listed in listed().iter().filter(|r| r.group == group && r.version == version) {
        let mut resource = json!({
            "name": listed.plural,
            "singularName": listed.singular,
            "namespaced": listed.namespaced,
            "kind": listed.kind,
            "verbs": listed.verbs,
        });
        if !listed.short_names.is_empty() {
            resource["shortNames"] = json!(listed.short_names);
        }
        if !listed.categories.is_empty() {
            resource["categories"] = json!(listed.categories);
        }
        resources.push(resource);
        for (subresource, verbs) in subresources(listed) {
            resources.push(json!({
                "name": format!("{}/{subresource}", listed.plural),
                "singularName": "",
                "namespaced": listed.namespaced,
                "kind": listed.kind,
                "verbs": verbs,
            }));
        }
    }
    (!resources.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": api_version(group, version),
            "resources": resources,
        })
    })
}

fn subresources(listed: &Listed) -> Vec<(&'static str, &'static [&'static str])> {
    let mut all: Vec<(&'static str, &'static [&'static str])> = Vec::new();
    if listed.status {
        all.push(("status", &STATUS_VERBS));
    }
    if listed.lease {
        all.push(("lease", &["create", "delete", "get"]));
    }
    all
}

/// `GET /api` and `/apis` as `APIGroupDiscoveryList`.
pub(crate) fn aggregated(core: bool, discovery_version: &str) -> Value {
    let items: Vec<Value> = groups()
        .into_iter()
        .filter(|group| group.is_empty() == core)
        .map(|group| {
            let versions: Vec<Value> = versions(group).iter().map(|v| aggregated_version(group, v)).collect();
            json!({ "metadata": { "name": group, "creationTimestamp": null }, "versions": versions })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{discovery_version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_version(group: &str, version: &str) -> Value {
    let all = listed();
    let resources = all.iter().filter(|r| r.group == group && r.version == version).map(|listed| {
        let response = json!({ "group": listed.group, "version": listed.version, "kind": listed.kind });
        let subresources: Vec<Value> = subresources(listed)
            .into_iter()
            .map(|(name, verbs)| json!({ "subresource": name, "responseKind": response, "verbs": verbs }))
            .collect();
        json!({
            "resource": listed.plural,
            "responseKind": response,
            "scope": if listed.namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": listed.singular,
            "verbs": listed.verbs,
            "shortNames": listed.short_names,
            "categories": listed.categories,
            "subresources": subresources,
        })
    });
    json!({ "version": version, "freshness": "Current", "resources": resources.collect::<Vec<_>>() })
}

/// The served version of a kind by which a path calls it.
pub(crate) fn served(group: &str, version: &str, plural: &str) -> Option<(&'static Kind, &'static str)> {
    let kind = Kind::by_plural(group, version, plural)?;
    let version = kind.served.iter().copied().find(|v| *v == version)?;
    Some((kind, version))
}

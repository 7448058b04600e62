//! Paths of the API, parsed into what they name.

use percent_encoding::percent_decode_str;

/// `/api/v1/namespaces/NS/services/NAME/status` and its kin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    /// Empty: none in the path.
    pub(crate) namespace: String,
    pub(crate) plural: String,
    /// Empty: the collection.
    pub(crate) name: String,
    /// Empty: the object itself.
    pub(crate) subresource: String,
    /// The old form `/api/v1/watch/...`.
    pub(crate) watch: bool,
}

/// What a path under `/api` or `/apis` is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ApiPath {
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/GROUP`
    Group(String),
    /// `/api/v1`, `/apis/GROUP/VERSION`
    Resources {
        group: String,
        version: String,
    },
    Resource(ResourcePath),
}

impl ApiPath {
    /// `None` for what is no path of the API.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let mut steps = Vec::new();
        for step in path.trim_matches('/').split('/') {
            let step = percent_decode_str(step).decode_utf8().ok()?.into_owned();
            if step.is_empty() || matches!(step.as_str(), "." | "..") || step.contains('/') {
                return None;
            }
            steps.push(step);
        }
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        match steps.as_slice() {
            ["api"] => Some(Self::CoreVersions),
            ["apis"] => Some(Self::Groups),
            ["api", version] => {
                Some(Self::Resources { group: String::new(), version: (*version).to_owned() })
            }
            ["apis", group] => Some(Self::Group((*group).to_owned())),
            ["apis", group, version] => {
                Some(Self::Resources { group: (*group).to_owned(), version: (*version).to_owned() })
            }
            ["api", version, rest @ ..] => resource("", version, rest),
            ["apis", group, version, rest @ ..] => resource(group, version, rest),
            _ => None,
        }
    }
}

fn resource(group: &str, version: &str, steps: &[&str]) -> Option<ApiPath> {
    let (watch, steps) = match steps {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        other => (false, other),
    };
    let subresource_of_namespace = |s: &str| matches!(s, "status" | "finalize");
    let (namespace, rest) = match steps {
        ["namespaces", _, sub] if subresource_of_namespace(sub) => ("", steps),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        other => ("", other),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, subresource] => (*plural, *name, *subresource),
        _ => return None,
    };
    let owned = |s: &str| s.to_owned();
    Some(ApiPath::Resource(ResourcePath {
        group: owned(group),
        version: owned(version),
        namespace: owned(namespace),
        plural: owned(plural),
        name: owned(name),
        subresource: owned(subresource),
        watch,
    }))
}

#[cfg(test)]
#[path = "path_test.rs"]
mod path_test;

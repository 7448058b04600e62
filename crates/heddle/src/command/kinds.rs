//! Kinds as a person names them.

use heddle_resource::{Kind, Object, kinds};

/// The kind with this name: `vs`, `virtualservice`, `VirtualServices`, `gateways.networking.istio.io` ...
///
/// # Errors
/// When no kind has the name; lists what there is.
pub(crate) fn find(name: &str) -> Result<&'static Kind, String> {
    let lower = name.to_lowercase();
    let (bare, group) = lower.split_once('.').unwrap_or((lower.as_str(), ""));
    let named = |kind: &&&Kind| {
        let names = [kind.plural, kind.singular];
        (names.contains(&bare) || kind.short_names.contains(&bare))
            && (group.is_empty() || kind.group == group)
    };
    kinds().iter().find(named).copied().ok_or_else(|| {
        let known: Vec<&str> = kinds().iter().map(|k| k.plural).collect();
        format!("no kind is called `{name}`; there are: {}", known.join(", "))
    })
}

/// `virtualservice.networking.istio.io/reviews`, with the namespace where there is one:
/// `virtualservices.networking.istio.io/default/reviews`.
pub(crate) fn path(object: &Object) -> String {
    let kind = if object.kind.group.is_empty() {
        object.kind.plural.to_owned()
    } else {
        format!("{}.{}", object.kind.plural, object.kind.group)
    };
    if object.meta.namespace.is_empty() {
        format!("{kind}/{}", object.meta.name)
    } else {
        format!("{kind}/{}/{}", object.meta.namespace, object.meta.name)
    }
}

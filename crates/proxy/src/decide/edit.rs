//! Header changes (`request_headers_to_add` and their kin) in Envoy's order.

use smallvec::SmallVec;

use super::format::Context;
use super::{Downstream, Forward};
use crate::http::head::{Headers, RequestHead, ResponseHead};
use crate::snapshot::{AppendAction, Edits, HeaderAdd, HeaderEdits, RouteConfig, VirtualHost};

/// Levels in the order in which they are applied: weighted cluster, route, virtual host, configuration, unless the
/// configuration asks for the most specific to have the last word.
pub(super) fn levels<'s>(
    weighted: Option<&'s HeaderEdits>,
    route: Option<&'s HeaderEdits>,
    virtual_host: &'s VirtualHost,
    config: &'s RouteConfig,
) -> SmallVec<[&'s HeaderEdits; 4]> {
    let mut levels: SmallVec<[&HeaderEdits; 4]> = SmallVec::new();
    levels.extend(weighted);
    if config.most_specific_wins {
        levels.extend([&config.edits, &virtual_host.edits]);
        levels.extend(route);
    } else {
        levels.extend(route);
        levels.extend([&virtual_host.edits, &config.edits]);
    }
    levels
}

/// What a level's additions come to before any of them is applied.
type Evaluated<'e> = SmallVec<[(&'e HeaderAdd, Vec<u8>); 4]>;

fn evaluate<'e>(edits: &'e Edits, context: &Context<'_>, exists: impl Fn(&str) -> bool) -> Evaluated<'e> {
    let mut out = Evaluated::new();
    for add in &edits.add {
        let mut value = Vec::new();
        add.value.write(context, b"", &mut value);
        let wanted = match add.action {
            AppendAction::AppendOrAdd | AppendAction::OverwriteOrAdd => true,
            AppendAction::AddIfAbsent => !exists(&add.name),
            AppendAction::OverwriteIfExists => exists(&add.name),
        };
        if wanted && (add.keep_empty || !value.is_empty()) {
            out.push((add, value));
        }
    }
    out
}

fn overwrites(add: &HeaderAdd) -> bool {
    matches!(add.action, AppendAction::OverwriteOrAdd | AppendAction::OverwriteIfExists)
}

/// Adds a field, its name spelled as it stands in the head already.
fn append(headers: &mut Headers, name: &str, value: &[u8]) {
    let known = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
    let spelled = known.and_then(|(known, _)| std::str::from_utf8(known).ok()).map(str::to_owned);
    headers.append(spelled.as_deref().unwrap_or(name), value);
}

pub(super) fn edit_request(
    edits: &Edits,
    downstream: &Downstream,
    forward: &Forward<'_>,
    head: &mut RequestHead,
) {
    for name in &edits.remove {
        head.headers.remove(name);
    }
    if edits.add.is_empty() {
        return;
    }
    let context = Context {
        downstream,
        request: head,
        response: None,
        route: &forward.route.name,
        cluster: forward.cluster.name.as_str(),
    };
    let head_ref = &*head;
    let exists = |name: &str| super::matching::request_value(head_ref, name).is_some();
    let evaluated = evaluate(edits, &context, exists);
    for (add, value) in evaluated.iter().filter(|(add, _)| overwrites(add)) {
        set_request(head, &add.name, value, true);
    }
    for (add, value) in evaluated.iter().filter(|(add, _)| !overwrites(add)) {
        set_request(head, &add.name, value, false);
    }
}

/// `host` and pseudo headers live outside of the fields.
fn set_request(head: &mut RequestHead, name: &str, value: &[u8], overwrite: bool) {
    match name {
        ":authority" | "host" => head.set_authority(value),
        ":path" => head.set_path(value),
        ":method" => head.set_method(value),
        _ if overwrite => head.headers.set(name, value),
        _ => append(&mut head.headers, name, value),
    }
}

/// Names for operators in response headers.
#[derive(Clone, Copy)]
pub(super) struct Names<'n> {
    pub(super) route: &'n str,
    pub(super) cluster: &'n str,
}

pub(super) fn edit_response(
    edits: &Edits,
    downstream: &Downstream,
    request: &RequestHead,
    names: Names<'_>,
    head: &mut ResponseHead,
) {
    for name in &edits.remove {
        head.headers.remove(name);
    }
    if edits.add.is_empty() {
        return;
    }
    let context =
        Context { downstream, request, response: Some(head), route: names.route, cluster: names.cluster };
    let head_ref = &*head;
    let exists = |name: &str| head_ref.headers.contains(name);
    let evaluated = evaluate(edits, &context, exists);
    for (add, value) in evaluated.iter().filter(|(add, _)| overwrites(add)) {
        head.headers.set(&add.name, value);
    }
    for (add, value) in evaluated.iter().filter(|(add, _)| !overwrites(add)) {
        append(&mut head.headers, &add.name, value);
    }
}

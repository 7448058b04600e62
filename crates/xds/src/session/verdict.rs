//! Which resources a NACK is about.

use std::sync::Arc;

use crate::{Encoded, Refusal};

/// The client's text is cut here.
const TEXT_LIMIT: usize = 4096;

/// Finds the refused resources of a response in the text of the refusal: lines `NAME: REASON` (our
/// proxy, and Envoy after its preamble), else names that stand in the text, else all that changed.
pub(crate) fn refused(message: &str, changed: &[Arc<Encoded>], sent: &[Arc<Encoded>]) -> Vec<Refusal> {
    let message = clip(message);
    let refusal = |resource: &Arc<Encoded>, reason: &str| Refusal {
        name: resource.name.clone(),
        version: resource.version.clone(),
        reason: reason.to_owned(),
    };
    let by_line: Vec<Refusal> =
        sent.iter().filter_map(|r| Some(refusal(r, reason_of(&r.name, message)?))).collect();
    if !by_line.is_empty() {
        return by_line;
    }
    let by_mention: Vec<Refusal> =
        sent.iter().filter(|r| mentions(message, &r.name)).map(|r| refusal(r, message)).collect();
    if !by_mention.is_empty() {
        return by_mention;
    }
    changed.iter().map(|r| refusal(r, message)).collect()
}

/// At most [`TEXT_LIMIT`] bytes of a text, cut between characters.
pub(crate) fn clip(text: &str) -> &str {
    let mut end = text.len().min(TEXT_LIMIT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The rest of the line that begins with `NAME: `, or of Envoy's "Error adding/updating
/// cluster(s) NAME: REASON, NAME: REASON".
fn reason_of<'m>(name: &str, message: &'m str) -> Option<&'m str> {
    if name.is_empty() {
        return None;
    }
    let mut from = 0;
    while let Some(found) = message[from..].find(name) {
        let (start, end) = (from + found, from + found + name.len());
        let (before, after) = (&message[..start], &message[end..]);
        let begins =
            before.is_empty() || before.ends_with('\n') || before.ends_with("(s) ") || before.ends_with(", ");
        if let (true, Some(reason)) = (begins, after.strip_prefix(": ")) {
            return Some(reason.lines().next().unwrap_or_default().trim_end());
        }
        from = end;
    }
    None
}

/// Whether a name stands in a text as a word of its own.
fn mentions(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '|');
    let whole = |at: usize| {
        !text[..at].ends_with(part) && !text[at + name.len()..].starts_with(|c| part(c) && c != '.')
    };
    name.len() >= 2 && text.match_indices(name).any(|(at, _)| whole(at))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::ResourceType;

    fn names(message: &str, sent: &[&str]) -> Vec<(String, String)> {
        let sent: Vec<_> = sent
            .iter()
            .map(|name| Encoded::from_bytes(ResourceType::Cluster, *name, Bytes::from_static(b"x")))
            .collect();
        refused(message, &sent, &sent).into_iter().map(|r| (r.name.to_string(), r.reason)).collect()
    }

    #[test]
    fn the_text_tells_which() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            names("b: no such\nc: worse", &["a", "b", "c"]),
            [pair("b", "no such"), pair("c", "worse")]
        );
        let envoy = "Error adding/updating cluster(s) outbound|80||x: bad, outbound|81||x: worse";
        let found = names(envoy, &["outbound|80||x", "outbound|81||x", "outbound|8||x"]);
        assert_eq!(found.iter().map(|f| &*f.0).collect::<Vec<_>>(), ["outbound|80||x", "outbound|81||x"]);
        let found = names("route: unknown cluster in 'reviews'.", &["reviews", "reviews-v2", "view"]);
        assert_eq!(found.len(), 1);
        assert_eq!(names("proto error", &["a", "b"]).len(), 2);
        assert_eq!(names(&"é".repeat(5000), &["a"])[0].1.len(), 4096);
    }
}

//! Paths and hosts brought to one form before they are matched.

use crate::snapshot::EscapedSlashes;

/// What became of `%2F` and `%5C`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slashes {
    /// Nothing to do.
    Same,
    /// Refuse the request.
    Reject,
    /// Go on with this path.
    Forward(Vec<u8>),
    /// Redirect to this path.
    Redirect(Vec<u8>),
}

/// Applies `path_with_escaped_slashes_action` to a path without its query.
pub(super) fn escaped_slashes(action: EscapedSlashes, path: &[u8]) -> Slashes {
    if action == EscapedSlashes::Keep {
        return Slashes::Same;
    }
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        let slash = (*first == b'%').then(|| hex_pair(tail)).flatten().filter(|b| matches!(b, b'/' | b'\\'));
        out.push(slash.unwrap_or(*first));
        rest = if slash.is_some() { &tail[2..] } else { tail };
    }
    if out.len() == path.len() {
        return Slashes::Same;
    }
    match action {
        EscapedSlashes::Reject => Slashes::Reject,
        EscapedSlashes::UnescapeAndRedirect => Slashes::Redirect(out),
        _ => Slashes::Forward(out),
    }
}

fn hex_pair(text: &[u8]) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    Some((digit(text.first()?)? * 16 + digit(text.get(1)?)?) as u8)
}

/// `normalize_path` (RFC 3986, 5.2.4 and 6.2.2): dot segments are resolved, unreserved characters decoded, backslashes are
/// slashes, and what may not stand in a path is escaped. `None`: it cannot be normalised.
pub(super) fn normalize(path: &[u8]) -> Option<Vec<u8>> {
    if path.first() != Some(&b'/') {
        return None;
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match *first {
            b'\\' => decoded.push(b'/'),
            b'%' => match hex_pair(tail) {
                Some(byte) if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') => {
                    decoded.push(byte);
                    rest = &tail[2..];
                }
                Some(0) => return None,
                _ => decoded.push(b'%'),
            },
            byte @ (0..=b' ' | 0x7f.. | b'"' | b'<' | b'>' | b'`' | b'{' | b'}') => {
                decoded.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
            byte => decoded.push(byte),
        }
    }
    let mut out: Vec<u8> = Vec::with_capacity(decoded.len());
    let mut segments = decoded[1..].split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." => {
                if last {
                    out.push(b'/');
                }
            }
            b".." => {
                let parent = out.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                out.truncate(parent);
                if last {
                    out.push(b'/');
                }
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    Some(out)
}

/// `merge_slashes`.
pub(super) fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    for byte in path {
        if *byte != b'/' || out.last() != Some(&b'/') {
            out.push(*byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_brought_to_one_form() {
        let rows = [
            ("/a/./b/../c", "/a/c"),
            ("/a/..", "/"),
            ("/..", "/"),
            ("/../../a", "/a"),
            ("/a/.", "/a/"),
            ("/a//b", "/a//b"),
            ("/%61/%2e%2E/b", "/b"),
            ("/%7Ea%2F", "/~a%2F"),
            (r"/a\b", "/a/b"),
            ("/a b", "/a%20b"),
            ("/a%", "/a%"),
            ("/", "/"),
        ];
        for (path, expected) in rows {
            let normal = normalize(path.as_bytes()).map(|path| String::from_utf8(path).unwrap());
            assert_eq!(normal.as_deref(), Some(expected), "{path}");
        }
        assert_eq!(normalize(b"*"), None);
        assert_eq!(normalize(b"/%00"), None);
        assert_eq!(merge_slashes(b"//a///b/"), b"/a/b/");
    }

    #[test]
    fn escaped_slashes_follow_the_action() {
        let act = |action| escaped_slashes(action, b"/a%2Fb%5c");
        assert_eq!(act(EscapedSlashes::Keep), Slashes::Same);
        assert_eq!(act(EscapedSlashes::Reject), Slashes::Reject);
        assert_eq!(act(EscapedSlashes::UnescapeAndForward), Slashes::Forward(b"/a/b\\".to_vec()));
        assert_eq!(act(EscapedSlashes::UnescapeAndRedirect), Slashes::Redirect(b"/a/b\\".to_vec()));
        assert_eq!(escaped_slashes(EscapedSlashes::Reject, b"/a%20"), Slashes::Same);
    }
}

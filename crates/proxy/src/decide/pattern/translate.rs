//! From RE2's syntax to that of the engine.

/// Longest pattern, bytes.
pub(super) const PATTERN_LIMIT: usize = 16 << 10;

/// Rewrites what RE2 and Rust's syntax understand differently: `\d`, `\w`, `\s`, `\b` are ASCII, `\Q...\E` is literal, and
/// `[`, `&&`, `--`, `~~` have no meaning of their own inside a class.
pub(super) fn translate(text: &str) -> Result<String, String> {
    if text.len() > PATTERN_LIMIT {
        return Err(format!("regex of {} bytes: at most {PATTERN_LIMIT} are accepted", text.len()));
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut chars = text.chars().peekable();
    let mut class: Option<usize> = None;
    while let Some(c) = chars.next() {
        match (c, class) {
            ('\\', _) => {
                let Some(next) = chars.next() else {
                    return Err(format!("regex {text:?}: trailing backslash"));
                };
                if next == 'Q' && class.is_none() {
                    literal_run(&mut chars, &mut out);
                } else {
                    out.push_str(&escape(next, class.is_some()));
                }
                class = class.map(|seen| seen + 1);
            }
            ('[', None) => {
                out.push('[');
                if chars.peek() == Some(&'^') {
                    chars.next();
                    out.push('^');
                }
                class = Some(0);
            }
            ('[', Some(seen)) => {
                out.push_str(if chars.peek() == Some(&':') { "[" } else { r"\[" });
                if chars.peek() == Some(&':') {
                    for inner in chars.by_ref() {
                        out.push(inner);
                        if inner == ']' {
                            break;
                        }
                    }
                }
                class = Some(seen + 1);
            }
            (']', Some(0)) => {
                out.push_str(r"\]");
                class = Some(1);
            }
            (']', Some(_)) => {
                out.push(']');
                class = None;
            }
            ('&' | '~', Some(seen)) => {
                out.push('\\');
                out.push(c);
                class = Some(seen + 1);
            }
            ('-', Some(seen)) => {
                out.push_str(if chars.peek() == Some(&'-') { r"\-" } else { "-" });
                class = Some(seen + 1);
            }
            (_, seen) => {
                out.push(c);
                class = seen.map(|seen| seen + 1);
            }
        }
    }
    Ok(out)
}

fn literal_run(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    while let Some(c) = chars.next() {
        if c == '\\' && chars.peek() == Some(&'E') {
            chars.next();
            return;
        }
        if c.is_ascii_punctuation() {
            out.push('\\');
        }
        out.push(c);
    }
}

fn escape(c: char, in_class: bool) -> String {
    match (c, in_class) {
        ('d', false) => "[0-9]".into(),
        ('d', true) => "0-9".into(),
        ('D', _) => "[^0-9]".into(),
        ('w', false) => "[0-9A-Za-z_]".into(),
        ('w', true) => "0-9A-Za-z_".into(),
        ('W', _) => "[^0-9A-Za-z_]".into(),
        ('s', false) => r"[\t\n\x0c\r ]".into(),
        ('s', true) => r"\t\n\x0c\r ".into(),
        ('S', _) => r"[^\t\n\x0c\r ]".into(),
        ('b', false) => r"(?-u:\b)".into(),
        ('B', false) => r"(?-u:\B)".into(),
        ('<' | '>', _) => c.to_string(),
        _ => format!("\\{c}"),
    }
}

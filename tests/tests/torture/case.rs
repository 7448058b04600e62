//! The corpus: bytes in a form that people can read, and what is to come of them.
//!
//! A case begins with `=== NAME`. `expect:` says what heddle does with each message, separated by `|`:
//!
//! - `forward METHOD TARGET [body=TEXT] [host=TEXT] [has=NAME] [not=NAME]`: the upstream sees exactly this;
//! - `refuse STATUS`: answered with this status, and nothing of it is a request to the upstream;
//! - `answer STATUS [body=TEXT] [has=NAME] [not=NAME]`: the client is told exactly this (of responses);
//! - `cut STATUS`: the client is told so much, and can tell that the body is not whole.
//!
//! `lax:` says with the sentence of an RFC why heddle forwards what others refuse. Lines that begin with `> ` are the
//! bytes, joined without line ends; `\r`, `\n`, `\t`, `\0`, `\\` and `\xHH` stand for one byte, `{TEXT*COUNT}` for many.

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Forward { method: String, target: String, rest: Vec<(String, String)> },
    Refuse(u16),
    Answer { status: u16, rest: Vec<(String, String)> },
    Cut(u16),
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) expect: Vec<Expect>,
    /// Why heddle may do what others refuse.
    pub(crate) lax: Option<String>,
    /// What the client sends, where it is not the bytes: those are then the server's.
    pub(crate) request: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
}

/// All cases of a file.
///
/// # Panics
/// When a line is none of a corpus.
pub(crate) fn read(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("=== ") {
            let (name, expect, lax) = (name.to_owned(), Vec::new(), None);
            cases.push(Case { name, expect, lax, request: Vec::new(), bytes: Vec::new() });
            continue;
        }
        let case = cases.last_mut().unwrap_or_else(|| panic!("line {number} stands before the first case"));
        if let Some(expect) = line.strip_prefix("expect: ") {
            case.expect = expect.split('|').map(|one| expectation(one.trim())).collect();
        } else if let Some(why) = line.strip_prefix("lax: ") {
            case.lax = Some(why.to_owned());
        } else if let Some(request) = line.strip_prefix("send: ") {
            case.request.extend(unescape(request));
        } else if let Some(bytes) = line.strip_prefix("> ") {
            case.bytes.extend(unescape(bytes));
        } else {
            panic!("line {}: {line:?}", number + 1);
        }
    }
    cases
}

fn expectation(text: &str) -> Expect {
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut words = rest.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let status = |word: String| word.parse().unwrap_or_else(|_| panic!("{text:?} has no status"));
    match kind {
        "forward" => Expect::Forward { method: word(), target: word(), rest: pairs(words) },
        "refuse" => Expect::Refuse(status(word())),
        "answer" => Expect::Answer { status: status(word()), rest: pairs(words) },
        "cut" => Expect::Cut(status(word())),
        _ => panic!("{text:?} is no expectation"),
    }
}

fn pairs<'w>(words: impl Iterator<Item = &'w str>) -> Vec<(String, String)> {
    let pair = |word: &str| {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        (name.to_owned(), String::from_utf8_lossy(&unescape(value)).into_owned())
    };
    words.map(pair).collect()
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut out, mut chars) = (Vec::new(), text.bytes().peekable());
    while let Some(byte) = chars.next() {
        match byte {
            b'\\' => match chars.next() {
                Some(b'r') => out.push(b'\r'),
                Some(b'n') => out.push(b'\n'),
                Some(b't') => out.push(b'\t'),
                Some(b'0') => out.push(0),
                Some(b's') => out.push(b' '),
                Some(b'x') => {
                    let digits: Vec<u8> = chars.by_ref().take(2).collect();
                    let digits = String::from_utf8_lossy(&digits).into_owned();
                    out.push(u8::from_str_radix(&digits, 16).unwrap_or_else(|_| panic!("{text:?}")));
                }
                Some(other) => out.push(other),
                None => panic!("{text:?} ends in a backslash"),
            },
            b'{' => {
                let inner: Vec<u8> = chars.by_ref().take_while(|byte| *byte != b'}').collect();
                let inner = String::from_utf8_lossy(&inner).into_owned();
                let (part, count) = inner.rsplit_once('*').unwrap_or_else(|| panic!("{text:?}"));
                let count: usize = count.parse().unwrap_or_else(|_| panic!("{text:?}"));
                let part = unescape(part);
                for _ in 0..count {
                    out.extend_from_slice(&part);
                }
            }
            other => out.push(other),
        }
    }
    out
}

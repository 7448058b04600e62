//! The form of a line: text, or one JSON object.

use super::operator::Operator;
use super::{Entry, Needs};
use crate::decide::format::{Piece, pieces};

/// Envoy's format where none is given.
pub(crate) const DEFAULT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
    \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// How a line is made, parsed once.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    form: Form,
    /// `omit_empty_values`: what is not known is left out.
    omit: bool,
    needs: Needs,
}

#[derive(Clone, Debug)]
enum Form {
    Text(Text),
    Json(Json),
}

/// Text and operators.
#[derive(Clone, Debug)]
struct Text(Box<[Part]>);

#[derive(Clone, Debug)]
enum Part {
    Text(Box<[u8]>),
    Operator(Operator),
}

/// A value of a JSON format (`google.protobuf.Struct`).
#[derive(Clone, Debug)]
pub(crate) enum Json {
    /// Members: `"key":` as it is written, and the value.
    Object(Box<[(Box<[u8]>, Json)]>),
    Array(Box<[Json]>),
    /// Written as it is.
    Literal(Box<[u8]>),
    Value(Value),
}

/// A value with operators.
#[derive(Clone, Debug)]
pub(crate) struct Value(Of);

#[derive(Clone, Debug)]
enum Of {
    /// One operator alone keeps its type.
    One(Operator),
    Many(Text),
}

impl Text {
    fn parse(format: &str) -> Result<Self, String> {
        let part = |piece| {
            Ok(match piece {
                Piece::Text(text) => Part::Text(text.into_bytes().into()),
                Piece::Operator(text) => Part::Operator(Operator::parse(text)?),
            })
        };
        pieces(format)?.into_iter().map(part).collect::<Result<_, String>>().map(Self)
    }

    fn operators(&self) -> impl Iterator<Item = &Operator> {
        self.0.iter().filter_map(|part| match part {
            Part::Operator(operator) => Some(operator),
            Part::Text(_) => None,
        })
    }

    fn write(&self, entry: &Entry<'_>, missing: &[u8], out: &mut Vec<u8>) {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Operator(operator) => {
                    if !operator.write(entry, out) {
                        out.extend_from_slice(missing);
                    }
                }
            }
        }
    }
}

impl Json {
    /// A string of the format.
    pub(crate) fn text(format: &str) -> Result<Self, String> {
        let text = Text::parse(format)?;
        Ok(match &*text.0 {
            [Part::Operator(operator)] => Self::Value(Value(Of::One(operator.clone()))),
            parts if parts.iter().all(|part| matches!(part, Part::Text(_))) => {
                let mut out = Vec::new();
                quoted(&mut out, |out| {
                    for part in parts {
                        let Part::Text(text) = part else { continue };
                        out.extend_from_slice(text);
                    }
                });
                Self::Literal(out.into())
            }
            _ => Self::Value(Value(Of::Many(text))),
        })
    }

    /// An object of these members, in their order.
    pub(crate) fn object(members: impl IntoIterator<Item = (String, Json)>) -> Self {
        let member = |(key, value): (String, Json)| {
            let mut name = Vec::new();
            quoted(&mut name, |out| out.extend_from_slice(key.as_bytes()));
            name.push(b':');
            (name.into_boxed_slice(), value)
        };
        Self::Object(members.into_iter().map(member).collect())
    }

    fn needs(&self) -> Needs {
        let all = |needs: Needs, other: &Self| needs.and(other.needs());
        match self {
            Self::Object(members) => members.iter().map(|(_, value)| value).fold(Needs::default(), all),
            Self::Array(values) => values.iter().fold(Needs::default(), all),
            Self::Literal(_) => Needs::default(),
            Self::Value(Value(Of::One(operator))) => operator.needs(),
            Self::Value(Value(Of::Many(text))) => needs(text.operators()),
        }
    }

    /// Appends the value; false when it is not known and was left out.
    fn write(&self, entry: &Entry<'_>, omit: bool, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Literal(text) => out.extend_from_slice(text),
            Self::Object(members) => {
                out.push(b'{');
                let first = out.len();
                for (name, value) in members {
                    let before = out.len();
                    if before > first {
                        out.push(b',');
                    }
                    out.extend_from_slice(name);
                    if !value.write(entry, omit, out) {
                        out.truncate(before);
                    }
                }
                if omit && out.len() == first {
                    return false;
                }
                out.push(b'}');
            }
            Self::Array(values) => {
                out.push(b'[');
                let first = out.len();
                for value in values {
                    let before = out.len();
                    if before > first {
                        out.push(b',');
                    }
                    if !value.write(entry, omit, out) {
                        out.truncate(before);
                    }
                }
                out.push(b']');
            }
            Self::Value(Value(Of::Many(text))) => {
                let missing: &[u8] = if omit { b"" } else { b"-" };
                quoted(out, |out| text.write(entry, missing, out));
            }
            Self::Value(Value(Of::One(operator))) => {
                let before = out.len();
                let found = if operator.is_number() {
                    operator.write(entry, out)
                } else {
                    let mut found = false;
                    quoted(out, |out| found = operator.write(entry, out));
                    found
                };
                if !found {
                    out.truncate(before);
                    if omit {
                        return false;
                    }
                    out.extend_from_slice(b"null");
                }
            }
        }
        true
    }
}

fn needs<'o>(operators: impl Iterator<Item = &'o Operator>) -> Needs {
    operators.fold(Needs::default(), |needs, operator| needs.and(operator.needs()))
}

impl Line {
    /// `text_format`.
    pub(crate) fn text(format: &str, omit: bool) -> Result<Self, String> {
        let text = Text::parse(format)?;
        Ok(Self { needs: needs(text.operators()), form: Form::Text(text), omit })
    }

    /// `json_format`.
    pub(crate) fn json(format: Json, omit: bool) -> Self {
        Self { needs: format.needs(), form: Form::Json(format), omit }
    }

    pub(super) fn needs(&self) -> Needs {
        self.needs
    }

    /// Appends the line.
    pub(super) fn write(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        match &self.form {
            Form::Text(text) => text.write(entry, if self.omit { b"" } else { b"-" }, out),
            Form::Json(json) => {
                if !json.write(entry, self.omit, out) {
                    out.extend_from_slice(b"}");
                }
                out.push(b'\n');
            }
        }
    }
}

/// Appends a JSON string whose content `write` appends.
fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    let from = out.len();
    write(out);
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if !out[from..].iter().all(plain) {
        let raw = out.split_off(from);
        escape(&String::from_utf8_lossy(&raw), out);
    }
    out.push(b'"');
}

fn escape(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            c if c.is_control() => out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes()),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
#[path = "line_test.rs"]
mod line_test;

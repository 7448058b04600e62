//! Text to documents: multi-document YAML and JSON, each document on its own, with the line of every field.

use std::{collections::HashMap, fmt, sync::Arc};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::{diagnostic::Diagnostic, object::Source};

/// The longest text that is read: a file or a request body.
pub const MAX_TEXT_BYTES: usize = 16 << 20;

/// One document as it was written.
#[derive(Clone, Debug)]
pub struct Document {
    pub value: Value,
    pub source: Option<Source>,
    lines: HashMap<String, u32>,
}

impl Document {
    /// A document that came as JSON, without a place in a file.
    pub fn from_json(value: Value) -> Self {
        Self { value, source: None, lines: HashMap::new() }
    }

    /// The file and line of a field, or of the nearest field above it that is known.
    pub fn place(&self, field: &str) -> Option<Source> {
        let source = self.source.as_ref()?;
        let mut path = field;
        loop {
            if let Some(line) = self.lines.get(path) {
                return Some(Source { file: source.file.clone(), line: *line });
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return Some(source.clone()),
            }
        }
    }
}

/// Reads every document of a text. A broken one is reported and does not disturb the others. Items of a
/// `List` become documents.
pub fn parse_documents(text: &str, file: &str) -> Vec<Result<Document, Diagnostic>> {
    let file: Arc<str> = file.into();
    if text.len() > MAX_TEXT_BYTES {
        let found = format!("{} bytes", text.len());
        return vec![Err(Diagnostic::error("HDL0001", "the file is too long")
            .found(found, format!("at most {MAX_TEXT_BYTES} bytes"))
            .at(Some(Source { file, line: 1 })))];
    }
    let mut documents = Vec::new();
    for (line, part) in split(text) {
        let source = Source { file: file.clone(), line };
        match parse(part, line) {
            Ok((Value::Null, _)) => {}
            Ok((value, lines)) => unlist(value, lines, &source, &mut documents),
            Err((at, message)) => {
                let at = Source { file: file.clone(), line: at.unwrap_or(line) };
                documents.push(Err(
                    Diagnostic::error("HDL0002", format!("not readable as YAML: {message}")).at(Some(at))
                ));
            }
        }
    }
    documents
}

/// Splits at document markers. They can stand nowhere else at the start of a line, block scalars included.
fn split(text: &str) -> Vec<(u32, &str)> {
    let (mut parts, mut start, mut start_line, mut at) = (Vec::new(), 0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        if bare == "---" || bare.starts_with("--- ") || bare == "..." {
            parts.push((start_line, &text[start..at]));
            let keep = if bare.starts_with("--- ") { at + 3 } else { at + line.len() };
            start = keep;
            start_line = index as u32 + if bare.starts_with("--- ") { 1 } else { 2 };
        }
        at += line.len();
    }
    parts.push((start_line, &text[start..]));
    parts.retain(|(_, part)| part.lines().any(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#')));
    // The line that a person looks for is the first one that says something.
    for (line, part) in &mut parts {
        *line += part.lines().take_while(|l| l.trim().is_empty() || l.trim_start().starts_with('#')).count()
            as u32;
    }
    parts
}

type Parsed = (Value, HashMap<String, u32>);

fn parse(text: &str, line: u32) -> Result<Parsed, (Option<u32>, String)> {
    if text.trim_start().starts_with(['{', '['])
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok((value, HashMap::new()));
    }
    let skipped =
        text.lines().take_while(|l| l.trim().is_empty() || l.trim_start().starts_with('#')).count() as u32;
    let offset = line.saturating_sub(skipped + 1);
    let mut lines = HashMap::new();
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let seed = Located { path: String::new(), lines: &mut lines, offset };
    let value = serde_saphyr::with_deserializer_from_str_with_options(text, options, |d| seed.deserialize(d))
        .map_err(|e| {
            let at = e.location().map(|l| l.line() as u32 + offset);
            let text = e.to_string();
            let mut first = text.lines().next().unwrap_or_default().to_owned();
            if let Some(place) = e.location() {
                // It counts from the document's beginning; the line is told as one of the file.
                let within = format!(" at line {}, column {}", place.line(), place.column());
                first = first.replace(&within, &format!(" at column {}", place.column()));
            }
            // The parser's advice to its programmer is none to the author of a document.
            (at, first.replace(", set DuplicateKeyPolicy in Options if acceptable", ""))
        })?;
    Ok((value, lines))
}

fn unlist(
    value: Value,
    lines: HashMap<String, u32>,
    source: &Source,
    out: &mut Vec<Result<Document, Diagnostic>>,
) {
    let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|k| k.ends_with("List"));
    let items = match value.get("items").and_then(Value::as_array) {
        Some(items) if is_list => items,
        _ => return out.push(Ok(Document { value, source: Some(source.clone()), lines })),
    };
    for (index, item) in items.iter().enumerate() {
        let prefix = format!("items[{index}]");
        let line = lines.get(&prefix).copied().unwrap_or(source.line);
        let lines = lines
            .iter()
            .filter_map(|(path, line)| {
                Some((path.strip_prefix(&prefix)?.strip_prefix('.')?.to_owned(), *line))
            })
            .collect();
        let source = Source { file: source.file.clone(), line };
        out.push(Ok(Document { value: item.clone(), source: Some(source), lines }));
    }
}

/// Deserializes any YAML into JSON and notes the line of every key.
struct Located<'l> {
    path: String,
    lines: &'l mut HashMap<String, u32>,
    offset: u32,
}

impl<'de> DeserializeSeed<'de> for Located<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Located<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, items.len());
            let seed = Located { path, lines: &mut *self.lines, offset: self.offset };
            match seq.next_element_seed(seed)? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<serde_saphyr::Spanned<String>>()? {
            let line = key.referenced.line() as u32 + self.offset;
            let path =
                if self.path.is_empty() { key.value.clone() } else { format!("{}.{}", self.path, key.value) };
            self.lines.entry(self.path.clone()).or_insert(line);
            self.lines.insert(path.clone(), line);
            let seed = Located { path, lines: &mut *self.lines, offset: self.offset };
            let value = map.next_value_seed(seed)?;
            if object.insert(key.value.clone(), value).is_some() {
                return Err(A::Error::custom(format!("the key `{}` stands there twice", key.value)));
            }
        }
        Ok(Value::Object(object))
    }
}

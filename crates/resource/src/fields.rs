//! `docs/resources.md`: every field of every kind, and what becomes of it.

use std::fmt::Write as _;

use crate::{
    kind::{Content, Kind, kinds},
    schema::{Effect, Field, Schema},
};

/// The table of fields as a document.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Resources and their fields\n\nGenerated from the descriptions that admission itself uses; `UPDATE_DOCS=1 cargo test -p \
         heddle-resource` writes it anew.\n\n- **acts**: does what its API says.\n- **not yet**: valid, accepted with a warning \
         (HDL0010), and without effect in this version.\n- **denied**: valid and not built; since it restricts, encrypts or limits, \
         the traffic concerned is denied\n  (HDL0012) rather than let through without it.\n\nA field that is not listed is refused \
         (HDL0011). Fields of core kinds that a mesh does not read are kept as they are.\nTypes that stand in several places are \
         described once per kind, at the first place.\n",
    );
    for kind in kinds() {
        section(kind, &mut text);
    }
    text
}

fn section(kind: &Kind, text: &mut String) {
    let versions: Vec<String> = kind.served.iter().map(|v| format!("`{}`", kind.api_version_of(v))).collect();
    let _ = write!(
        text,
        "\n## {}\n\n{}\n\n| field | type | effect | what |\n|---|---|---|---|\n",
        title(kind),
        versions.join(", ")
    );
    let Schema::Object(fields) = (kind.schema)() else { return };
    let root = if kind.content == Content::Spec { "spec" } else { "" };
    let mut rows = Rows { text, seen: Vec::new() };
    for field in fields.iter().filter(|f| f.name != "status") {
        rows.field(field, root, Effect::Acts);
    }
}

/// The kind, with its group where two share a name.
fn title(kind: &Kind) -> String {
    let shared = kinds().iter().filter(|other| other.kind == kind.kind).count() > 1;
    if shared { format!("{} ({})", kind.kind, kind.group) } else { kind.kind.to_owned() }
}

struct Rows<'t> {
    text: &'t mut String,
    /// Objects that were described already, with the place.
    seen: Vec<(*const Field, String)>,
}

impl Rows<'_> {
    fn field(&mut self, field: &Field, path: &str, around: Effect) {
        let path = if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
        let effect = around.max(field.effect);
        let (suffix, object) = innermost(&field.schema);
        let mut doc = field.doc.replace('|', "\\|");
        let before = object.and_then(|fields| {
            let place = self.seen.iter().find(|(seen, _)| *seen == fields.as_ptr());
            place.map(|(_, place)| place.clone())
        });
        if let Some(place) = &before {
            let _ = write!(doc, " Fields as in `{place}`.");
        }
        let _ = writeln!(
            self.text,
            "| `{path}` | {} | {} | {} |",
            type_name(field),
            effect_name(field, effect),
            doc.trim()
        );
        if let (Some(fields), None) = (object, before) {
            let place = format!("{path}{suffix}");
            self.seen.push((fields.as_ptr(), place.clone()));
            for inner in fields {
                self.field(inner, &place, effect);
            }
        }
    }
}

/// The fields inside, with the brackets on the way to them.
fn innermost(schema: &Schema) -> (&'static str, Option<&[Field]>) {
    match schema {
        Schema::Object(fields) => ("", Some(fields)),
        Schema::List(item) => ("[]", innermost(item).1),
        Schema::Map(item) => ("{}", innermost(item).1),
        _ => ("", None),
    }
}

fn type_name(field: &Field) -> String {
    let name = schema_name(&field.schema);
    let name = if field.one_of.is_empty() { name } else { words(field.one_of) };
    let required = if field.required { ", required" } else { "" };
    format!("{name}{required}")
}

fn schema_name(schema: &Schema) -> String {
    match schema {
        Schema::String => "string".to_owned(),
        Schema::Integer => "integer".to_owned(),
        Schema::Number => "number".to_owned(),
        Schema::Boolean => "boolean".to_owned(),
        Schema::IntOrString => "integer or string".to_owned(),
        Schema::Duration => "duration".to_owned(),
        Schema::Any => "any".to_owned(),
        Schema::Enum(names) => words(names),
        Schema::List(item) => format!("list of {}", schema_name(item)),
        Schema::Map(item) => format!("map of {}", schema_name(item)),
        Schema::Object(_) => "object".to_owned(),
    }
}

fn words(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ")
}

fn effect_name(field: &Field, effect: Effect) -> String {
    match effect {
        Effect::Acts => {
            let mut name = "acts".to_owned();
            if !field.later.is_empty() {
                let _ = write!(name, "; not yet: {}", words(field.later));
            }
            if !field.denies.is_empty() {
                let _ = write!(name, "; denied: {}", words(field.denies));
            }
            name
        }
        Effect::Later => "not yet".to_owned(),
        Effect::Denies => "denied".to_owned(),
    }
}

//! Query parameters of the API: parsed once, every fault named.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use crate::error::ApiError;

/// The decoded parameters of a request. A repeated parameter keeps all of its values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    values: BTreeMap<String, Vec<String>>,
}

impl Query {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in text.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            values.entry(decode(key)?).or_default().push(decode(value)?);
        }
        Ok(Self { values })
    }

    /// The first value of a parameter; empty counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.first().map(String::as_str).filter(|v| !v.is_empty())
    }

    pub(crate) fn all(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// As Kubernetes reads it: present and neither `false` nor `0` means true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        match self.values.get(name).and_then(|v| v.first()).map(String::as_str) {
            None | Some("false" | "0" | "False" | "FALSE") => false,
            Some(_) => true,
        }
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            ApiError::bad_request(format!(
                "query parameter {name}: found {text:?}, expected a number of 0 or more"
            ))
        })
    }

    /// Each parameter with its first value, for the debug views.
    pub(crate) fn firsts(&self) -> BTreeMap<String, String> {
        self.values.iter().filter_map(|(k, v)| Some((k.clone(), v.first()?.clone()))).collect()
    }
}

fn decode(text: &str) -> Result<String, ApiError> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| ApiError::bad_request(format!("query parameter {text:?} is not UTF-8")))
}

/// What happens to fields that the schema does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// The options that writes share.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    /// Empty when the client gave none.
    pub(crate) manager: String,
    pub(crate) force: bool,
    pub(crate) validation: FieldValidation,
}

impl WriteOptions {
    /// `user_agent` names the manager when the request does not.
    pub(crate) fn read(query: &Query, user_agent: &str) -> Result<Self, ApiError> {
        let dry_run = dry_run(query.all("dryRun"))?;
        let validation = match query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                return Err(ApiError::bad_request(format!(
                    "query parameter fieldValidation: found {other:?}, expected Ignore, Warn or Strict"
                )));
            }
        };
        let manager = query.get("fieldManager").map_or_else(|| agent_name(user_agent), str::to_owned);
        if manager.len() > 128 {
            return Err(ApiError::bad_request("query parameter fieldManager: at most 128 bytes"));
        }
        Ok(Self { dry_run, manager, force: query.flag("force"), validation })
    }
}

/// `All` or nothing, as given in queries and in DeleteOptions.
pub(crate) fn dry_run(values: &[String]) -> Result<bool, ApiError> {
    match values.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | [""] => Ok(false),
        ["All"] => Ok(true),
        other => Err(ApiError::bad_request(format!("dryRun: found {other:?}, expected All or nothing"))),
    }
}

/// `kubectl/v1.32.4 (linux/amd64)` is `kubectl`.
fn agent_name(user_agent: &str) -> String {
    let name = user_agent.split('/').next().unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

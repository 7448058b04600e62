//! `heddle apply`: resources from files to the API, and on request a wait until the mesh serves them.

use std::time::Duration;

use heddle_api::client::{ApplyOptions, Client, ClientError};
use heddle_resource::{Object, Severity};
use http::Method;
use serde_json::Value;

use super::{documents::Documents, kinds};
use crate::{cli::ApplyArgs, output, settings};

pub(crate) async fn run(args: &ApplyArgs) -> Result<bool, String> {
    let mut documents = Documents::read(&args.files, &args.namespace)?;
    for finding in &documents.findings {
        if finding.severity == Severity::Error {
            output::error(&finding.to_string());
        } else {
            output::warning(&finding.to_string());
        }
    }
    let client = Client::new(&settings::server(args.server.server.as_deref())).map_err(|e| e.to_string())?;
    let mut fine = documents.refused == 0;
    let mut applied = Vec::new();
    namespaces_first(&mut documents.objects);
    for object in &documents.objects {
        let options = ApplyOptions { force: true, dry_run: args.dry_run, ..ApplyOptions::default() };
        match client.apply(object.kind, &object.json, &options).await {
            Ok(answer) => {
                let done = if answer.created { "created" } else { "configured" };
                let note = if args.dry_run { " (dry run)" } else { "" };
                output::line(&format!("{} {done}{note}", kinds::path(object)));
                applied.push((object, generation(&answer.value)));
            }
            // The others would say the same.
            Err(error @ ClientError::Unreachable { .. }) => return Err(error.to_string()),
            Err(error) => {
                output::error(&format!("{}: {error}", object.key()));
                fine = false;
            }
        }
    }
    if args.wait && !args.dry_run {
        for (object, generation) in &applied {
            fine &= wait(&client, object, *generation, args.timeout).await?;
        }
    }
    Ok(fine)
}

/// Applies the documents of one text; with `patience`, waits until the connected proxies serve them.
///
/// # Errors
/// The first refusal, or the laggards.
pub(crate) async fn apply_text(
    client: &Client,
    text: &str,
    name: &str,
    namespace: &str,
    patience: Option<Duration>,
) -> Result<(), String> {
    let mut documents = Documents::default();
    documents.take(text, name, namespace);
    if let Some(error) = documents.findings.iter().find(|f| f.severity == Severity::Error) {
        return Err(error.to_string());
    }
    namespaces_first(&mut documents.objects);
    let mut applied = Vec::new();
    for object in &documents.objects {
        let options = ApplyOptions { force: true, ..ApplyOptions::default() };
        let answer = client.apply(object.kind, &object.json, &options).await;
        applied.push(generation(&answer.map_err(|e| format!("{}: {e}", object.key()))?.value));
    }
    if let Some(patience) = patience {
        for (object, generation) in documents.objects.iter().zip(applied) {
            if !wait(client, object, generation, patience).await? {
                return Err(format!("{} is not served everywhere", object.key()));
            }
        }
    }
    Ok(())
}

/// A Namespace has to exist before what lives in it.
fn namespaces_first(objects: &mut [Object]) {
    objects.sort_by_key(|o| o.kind.kind != "Namespace");
}

fn generation(object: &Value) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap_or(0)
}

/// Waits until every connected proxy that the object concerns serves this generation of it; false when one
/// refused it or time ran out, after saying which.
async fn wait(client: &Client, object: &Object, generation: i64, patience: Duration) -> Result<bool, String> {
    let name = kinds::path(object);
    let generation = generation.to_string();
    let query = [("object", name.as_str()), ("generation", generation.as_str())];
    let deadline = tokio::time::Instant::now() + patience;
    let mut poll = tokio::time::interval(Duration::from_millis(5));
    loop {
        poll.tick().await;
        let seen = client
            .raw(Method::GET, "/debug/convergence", &query, None)
            .await
            .map_err(|e| e.to_string())?
            .value;
        if let Some(refusal) = seen["refusals"].as_array().and_then(|r| r.first()) {
            let (node, reason) = (&refusal["node"], &refusal["reason"]);
            output::error(&format!("{name}: refused by {node}: {reason}"));
            return Ok(false);
        }
        if seen["converged"].as_bool().unwrap_or(false) {
            return Ok(true);
        }
        if tokio::time::Instant::now() >= deadline {
            let (done, of) = (&seen["programmed"], &seen["connected"]);
            output::error(&format!(
                "{name}: served by {done} of {of} proxies after {patience:?}; waiting for: {}; see `heddle status`",
                seen["laggards"]
            ));
            return Ok(false);
        }
    }
}

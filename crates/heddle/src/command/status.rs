//! `heddle status` and `heddle version`.

use heddle_api::client::Client;
use http::Method;
use serde_json::{Value, json};

use crate::{
    cli::{StatusArgs, VersionArgs},
    output, settings,
};

pub(crate) async fn run(args: &StatusArgs) -> Result<bool, String> {
    let client = Client::new(&settings::server(args.server.server.as_deref())).map_err(|e| e.to_string())?;
    let seen = client.raw(Method::GET, "/debug/syncz", &[], None).await.map_err(|e| e.to_string())?.value;
    if output::data(args.output, &seen)? {
        return Ok(true);
    }
    output::line(&format!("control plane {}", client.server()));
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), ToOwned::to_owned);
    let proxies = seen["proxies"].as_array().cloned().unwrap_or_default();
    if proxies.is_empty() {
        output::line("no proxy is connected");
        return Ok(true);
    }
    let rows = proxies.iter().map(|p| ["node", "scope", "state", "refused"].map(|f| text(&p[f])).to_vec());
    output::table(&["node", "scope", "state", "refused"], rows);
    Ok(proxies.iter().all(|p| p["refused"].as_u64().unwrap_or(0) == 0))
}

pub(crate) async fn version(args: &VersionArgs) -> Result<bool, String> {
    let mut versions = json!({"client": env!("CARGO_PKG_VERSION")});
    // A version is worth printing with no mesh around.
    if let Ok(client) = Client::new(&settings::server(args.server.server.as_deref()))
        && let Ok(answer) = client.raw(Method::GET, "/version", &[], None).await
    {
        versions["controlPlane"] = answer.value["gitVersion"].clone();
    }
    if !output::data(args.output, &versions)? {
        output::line(&format!("heddle {}", env!("CARGO_PKG_VERSION")));
        match versions["controlPlane"].as_str() {
            Some(version) => output::line(&format!("control plane {version}")),
            None => output::line("control plane: none answers"),
        }
    }
    Ok(true)
}

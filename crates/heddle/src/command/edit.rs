//! `heddle edit`: a resource in $EDITOR.

use std::process::Command;

use heddle_api::client::Client;

use super::{documents::Documents, kinds};
use crate::{cli::DescribeArgs, output, settings};

pub(crate) async fn run(args: &DescribeArgs) -> Result<bool, String> {
    let client = Client::new(&settings::server(args.server.server.as_deref())).map_err(|e| e.to_string())?;
    let kind = kinds::find(&args.kind)?;
    let mut object = client.get(kind, &args.namespace, &args.name).await.map_err(|e| e.to_string())?;
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.remove("managedFields");
    }
    let before = serde_saphyr::to_string(&object).map_err(|e| e.to_string())?;
    let mut file = tempfile::Builder::new()
        .prefix("heddle-edit-")
        .suffix(".yaml")
        .tempfile()
        .map_err(|e| e.to_string())?;
    std::io::Write::write_all(&mut file, before.as_bytes()).map_err(|e| e.to_string())?;
    let editor =
        std::env::var("VISUAL").or_else(|_| std::env::var("EDITOR")).unwrap_or_else(|_| "vi".to_owned());
    // As every program that starts $EDITOR does: it may hold arguments.
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("sh")
        .arg(file.path())
        .status()
        .map_err(|e| format!("cannot run {editor}: {e}; set $EDITOR"))?;
    if !status.success() {
        return Err(format!("{editor} ended with {status}; nothing was changed"));
    }
    let after = std::fs::read_to_string(file.path()).map_err(|e| e.to_string())?;
    if after == before {
        output::note("nothing was changed");
        return Ok(true);
    }
    let mut edited = Documents::default();
    edited.take(&after, "the edited text", &args.namespace);
    if edited.refused > 0 {
        edited.findings.iter().for_each(|f| output::error(&f.to_string()));
        return Ok(false);
    }
    let object = edited.objects.first().ok_or("the edited text holds no resource; nothing was changed")?;
    client.replace(object.kind, &object.meta.namespace, &object.json).await.map_err(|e| e.to_string())?;
    output::line(&format!("{} edited", kinds::path(object)));
    Ok(true)
}

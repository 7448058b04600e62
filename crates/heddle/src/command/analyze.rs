//! `heddle analyze`: every problem in files or in the live mesh.

use heddle_api::client::Client;
use heddle_resource::{AdmitOptions, Diagnostic, Object, Severity, admit_json, analyze, kinds};
use serde_json::json;

use super::documents::Documents;
use crate::{cli::AnalyzeArgs, output, settings};

pub(crate) async fn run(args: &AnalyzeArgs) -> Result<bool, String> {
    let (objects, mut findings) = if args.files.is_empty() {
        live(args).await?
    } else {
        let documents = Documents::read(&args.files, "default")?;
        (documents.objects, documents.findings)
    };
    findings.extend(analyze(&objects));
    let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
    if output::data(args.output, &json!({"objects": objects.len(), "findings": findings}))? {
        return Ok(errors == 0);
    }
    for finding in &findings {
        let name = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        output::line(&format!("{name:<8} {finding}"));
    }
    let warnings = findings.iter().filter(|f| f.severity == Severity::Warning).count();
    output::line(&format!("{} objects, {errors} errors, {warnings} warnings", objects.len()));
    Ok(errors == 0)
}

/// Everything that the mesh holds, judged anew.
async fn live(args: &AnalyzeArgs) -> Result<(Vec<Object>, Vec<Diagnostic>), String> {
    let client = Client::new(&settings::server(args.server.server.as_deref())).map_err(|e| e.to_string())?;
    let (mut objects, mut findings) = (Vec::new(), Vec::new());
    for kind in kinds() {
        let list = client.list(kind, None, &[]).await.map_err(|e| e.to_string())?;
        for item in list["items"].as_array().into_iter().flatten() {
            let mut item = item.clone();
            item["apiVersion"] = kind.api_version().into();
            item["kind"] = kind.kind.into();
            let verdict = admit_json(item, &AdmitOptions::default());
            findings.extend_from_slice(verdict.diagnostics());
            objects.extend(verdict.object());
        }
    }
    Ok((objects, findings))
}

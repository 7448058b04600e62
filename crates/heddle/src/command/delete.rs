//! `heddle delete`: by name, or everything that files name.

use heddle_api::client::Client;

use super::{documents::Documents, kinds};
use crate::{cli::DeleteArgs, output, settings};

pub(crate) async fn run(args: &DeleteArgs) -> Result<bool, String> {
    let client = Client::new(&settings::server(args.server.server.as_deref())).map_err(|e| e.to_string())?;
    let mut targets = Vec::new();
    if args.files.is_empty() {
        let name = args
            .kind
            .as_deref()
            .ok_or("name a kind and an object, or files with -f; see heddle delete --help")?;
        let kind = kinds::find(name)?;
        if args.names.is_empty() {
            return Err(format!("which of the {}? name at least one", kind.plural));
        }
        targets.extend(args.names.iter().map(|n| (kind, args.namespace.clone(), n.clone())));
    } else {
        let documents = Documents::read(&args.files, &args.namespace)?;
        targets.extend(
            documents.objects.iter().map(|o| (o.kind, o.meta.namespace.to_string(), o.meta.name.to_string())),
        );
    }
    let mut fine = true;
    for (kind, namespace, name) in targets {
        match client.delete(kind, &namespace, &name).await {
            Ok(_) => output::line(&format!("{} \"{name}\" deleted", kind.singular)),
            Err(error) => {
                output::error(&error.to_string());
                fine = false;
            }
        }
    }
    Ok(fine)
}

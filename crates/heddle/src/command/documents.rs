//! Resources that the command line was given: files, directories, or standard input.

use std::{
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use heddle_resource::{Admission, AdmitOptions, Diagnostic, Object, UnknownFields, admit, parse_documents};

/// What a set of files held.
#[derive(Default)]
pub(crate) struct Documents {
    pub(crate) objects: Vec<Object>,
    /// Warnings and errors, in the order of the files.
    pub(crate) findings: Vec<Diagnostic>,
    /// How many documents were refused.
    pub(crate) refused: usize,
}

impl Documents {
    /// Reads and admits everything at `paths`; `-` is standard input.
    ///
    /// # Errors
    /// When a path cannot be read, or names no file at all.
    pub(crate) fn read(paths: &[PathBuf], namespace: &str) -> Result<Self, String> {
        let mut files = Vec::new();
        for path in paths {
            collect(path, &mut files)?;
        }
        if files.is_empty() {
            let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
            return Err(format!("no *.yaml, *.yml or *.json file in {}", paths.join(", ")));
        }
        let mut all = Self::default();
        for file in files {
            let text = if file.as_os_str() == "-" {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).map_err(|e| format!("standard input: {e}"))?;
                text
            } else {
                std::fs::read_to_string(&file).map_err(|e| match e.kind() {
                    ErrorKind::InvalidData => {
                        format!("{} is no text in UTF-8: expected YAML or JSON", file.display())
                    }
                    _ => format!("{}: {e}", file.display()),
                })?
            };
            all.take(&text, &file.display().to_string(), namespace);
        }
        Ok(all)
    }

    /// Reads and admits the documents of one text.
    pub(crate) fn take(&mut self, text: &str, name: &str, namespace: &str) {
        let options = AdmitOptions { unknown_fields: UnknownFields::Refuse, default_namespace: namespace };
        for document in parse_documents(text, name) {
            let verdict = match document {
                Ok(document) => admit(&document, &options),
                Err(finding) => Admission::Refused(vec![finding]),
            };
            self.findings.extend_from_slice(verdict.diagnostics());
            match verdict {
                Admission::Admitted { object, .. } => self.objects.push(object),
                Admission::Refused(_) => self.refused += 1,
                Admission::NotOurs(_) => {}
            }
        }
    }
}

/// The files at a path; those of a directory in the order of their names.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    if path.as_os_str() == "-" || path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = std::fs::read_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut entries: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    entries.sort();
    for entry in entries {
        let resource = entry.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if entry.is_dir() || resource {
            collect(&entry, files)?;
        }
    }
    Ok(())
}

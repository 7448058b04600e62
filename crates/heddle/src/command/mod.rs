//! One module for each command that asks or changes a mesh.

pub(crate) mod analyze;
pub(crate) mod apply;
pub(crate) mod delete;
mod documents;
pub(crate) mod edit;
pub(crate) mod explain;
pub(crate) mod get;
mod kinds;
pub(crate) mod proxy_config;
pub(crate) mod register;
pub(crate) mod status;

use std::fmt::Write as _;

use clap::CommandFactory;

use crate::cli::Cli;

/// Prints the completion script of a shell.
pub(crate) fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "heddle", &mut std::io::stdout());
}

/// docs/commands.md, from the definitions.
pub(crate) fn reference() -> String {
    let mut page = String::from(
        "# Commands\n\nGenerated from the definitions in `crates/heddle/src/cli.rs`; do not edit.\n\nExit codes: 0 done, 1 the answer is no, 2 wrong usage. Settings: flag, then `HEDDLE_*`, then default.\n",
    );
    let mut root = Cli::command();
    root.build();
    for command in root.get_subcommands_mut() {
        if command.is_hide_set() || command.get_name() == "help" {
            continue;
        }
        // What this machine's environment holds is no part of the document.
        let shown = command.clone().mut_args(|argument| argument.hide_env_values(true));
        let help = shown.max_term_width(100).term_width(100).render_long_help();
        let _ =
            write!(page, "\n## heddle {}\n\n```\n{}```\n", command.get_name(), trimmed(&help.to_string()));
    }
    page
}

fn trimmed(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod test {
    #[test]
    fn docs_of_the_commands_are_current() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/commands.md");
        let page = super::reference();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == page, "docs/commands.md is stale: run UPDATE_DOCS=1 cargo test --workspace docs");
    }

    #[test]
    fn the_definitions_hold_together() {
        use clap::CommandFactory as _;
        crate::cli::Cli::command().debug_assert();
    }
}

//! The binary: every role and the command line. The only crate that knows all the others.

mod capture;
mod cli;
mod command;
mod demo;
mod explanation;
mod mesh_view;
mod output;
mod role;
mod run;
mod settings;
mod sys;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit codes: 0 done, 1 the answer is no, 2 wrong usage (clap's own).
fn main() -> ExitCode {
    let cli = Cli::parse();
    output::log_to_stderr(&cli.log);
    match dispatch(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Runs the command and yields the exit code.
fn dispatch(command: Command) -> Result<u8, String> {
    match command {
        Command::Run(args) => management()?.block_on(run::run(&args)),
        // These change what they are; a runtime's threads would be left behind.
        Command::NamespaceHold(args) => capture::hold(&args),
        Command::NamespaceEnter(args) => capture::enter(&args),
        command => answer(command).map(|yes| u8::from(!yes)),
    }
}

/// Runs a command whose answer is yes or no; a no has been printed.
fn answer(command: Command) -> Result<bool, String> {
    match command {
        Command::Proxy(args) => role::proxy::run(&args),
        Command::Completions { shell } => {
            command::completions(shell);
            Ok(true)
        }
        Command::Reference => {
            output::print(&command::reference());
            Ok(true)
        }
        other => management()?.block_on(async {
            match other {
                Command::Demo(args) => demo::run(&args).await,
                Command::Up(args) => role::control::up(args).await,
                Command::Control(args) => role::control::run(args).await,
                Command::Register(args) => command::register::register(&args).await,
                Command::Deregister(args) => command::register::deregister(&args).await,
                Command::Apply(args) => command::apply::run(&args).await,
                Command::Get(args) => command::get::run(&args).await,
                Command::Describe(args) => command::get::describe(&args).await,
                Command::Delete(args) => command::delete::run(&args).await,
                Command::Edit(args) => command::edit::run(&args).await,
                Command::Analyze(args) => command::analyze::run(&args).await,
                Command::Explain(args) => command::explain::run(&args).await,
                Command::Status(args) => command::status::run(&args).await,
                Command::ProxyConfig(args) => command::proxy_config::run(&args).await,
                Command::Version(args) => command::status::version(&args).await,
                Command::Proxy(_)
                | Command::Run(_)
                | Command::Completions { .. }
                | Command::Reference
                | Command::NamespaceHold(_)
                | Command::NamespaceEnter(_) => Ok(true),
            }
        }),
    }
}

fn management() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start the runtime: {e}"))
}

//! The process that becomes the program: it enters the namespace, takes its own resolv.conf, and executes.

use std::{
    fs::File,
    io,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::Path,
    process::Command,
};

use rustix::{
    process::{Signal, getppid, set_parent_process_death_signal},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::resolv;
use crate::{cli::EnterArgs, output};

/// Exit codes of a shell whose command cannot be run.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Becomes CMD in the holder's namespace; returns only when that cannot be.
///
/// # Errors
/// What could not be done before CMD was to be executed.
pub(crate) fn enter(args: &EnterArgs) -> Result<u8, String> {
    join(args)
        .map_err(|(step, error)| format!("cannot run CMD in its network namespace: {step}: {error}"))?;
    let (program, arguments) = args.command.split_first().ok_or("name a command to run after --")?;
    let error = Command::new(program).args(arguments).exec();
    output::error(&format!("cannot run {program}: {error}; is it on the path?"));
    Ok(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE })
}

fn join(args: &EnterArgs) -> Result<(), (String, io::Error)> {
    // Without its sidecar the program could reach nobody, so it is asked to end with it.
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|e| ("asking to end with heddle run".to_owned(), e.into()))?;
    if getppid().is_none_or(|parent| parent.as_raw_nonzero().get().cast_unsigned() != args.parent) {
        return Err(("looking for heddle run".to_owned(), io::ErrorKind::NotFound.into()));
    }
    let namespaces = Path::new("/proc").join(args.holder.to_string()).join("ns");
    let open = |name: &str| {
        let path = namespaces.join(name);
        File::open(&path).map_err(|e| (format!("opening {}", path.display()), e))
    };
    let network = open("net")?;
    if args.user {
        move_into_link_name_space(open("user")?.as_fd(), Some(LinkNameSpaceType::User))
            .map_err(|e| ("entering the user namespace".to_owned(), e.into()))?;
    }
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|e| ("entering the network namespace".to_owned(), e.into()))?;
    resolv::replace(&args.resolv_conf)
}

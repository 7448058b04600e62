//! One process takes over from another without losing a connection.
//!
//! A proxy that may be replaced listens on a socket in its data directory, its *door*. A successor connects to it, and is
//! given every socket that is listened on, the door among them, and the configuration in force. It accepts nothing until it
//! is ready; then it accepts, says so, and only then does the old process leave the sockets alone and drain. Both have the
//! same sockets, not two of one address: what waits to be accepted waits for whoever is there.
//!
//! Until the successor has said that it is ready, nothing has happened: when it dies or gives up, the old process goes on.
//! Meanwhile it opens and closes no sockets, so that what it gave away stays true.
//!
//! One message is one packet of JSON. The first, [`Hello`], and [`Answer::Refused`] keep their form for ever, so that any
//! two versions can tell that they cannot do it; everything else may change with [`PROTOCOL`].

mod give;
mod link;
mod take;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use give::serve;
pub(crate) use link::Door;
pub(crate) use take::{Inherited, take};

use crate::config::Bound;
use crate::snapshot::Address;

/// The version of what is said. Both must speak the same.
const PROTOCOL: u32 = 1;
/// The door's name in the data directory.
pub(crate) const DOOR: &str = "proxy.sock";
/// How long a greeting may take.
const GREETING: Duration = Duration::from_secs(5);
/// How long a successor tries to become ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long its predecessor waits for it: longer, so that the two never disagree about who serves.
const WAIT: Duration = Duration::from_secs(90);

/// What a successor says first.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    protocol: u32,
    /// Version of the binary, for the log.
    version: String,
    pid: u32,
}

/// What the running proxy says.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// Nothing is handed over.
    Refused { protocol: u32, reason: String },
    /// What follows is yours as soon as you are ready.
    Welcome(Welcome),
    /// Descriptors, beside this message and in this order.
    Sockets(Vec<Handed>),
    /// That was all.
    Done,
    /// Said after [`Ready`]: this process accepts no more.
    Yours,
}

/// Who hands over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) version: String,
    pub(crate) pid: u32,
    /// How many replacements there were before this one.
    pub(crate) epoch: u32,
    /// Since the first process of the series started, in seconds.
    pub(crate) uptime: u64,
    /// What `/healthcheck/fail` and `/healthcheck/ok` have said.
    pub(crate) healthy: bool,
    /// The addresses that it was given for its flags.
    pub(crate) bound: Bound,
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    /// A TCP socket for connections, listening or only bound, or a Unix socket that is listened on.
    Listener,
    Admin,
    NamesUdp,
    NamesTcp,
    /// The socket at which a successor asks.
    Door,
    /// A file in memory with the configuration in force.
    Configuration,
}

/// One descriptor.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Handed {
    kind: Kind,
    /// None for what has none.
    address: Option<Address>,
}

/// Said by the successor when it accepts.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    /// Addresses whose sockets it took; it has closed its copies of the others.
    taken: Vec<Address>,
}

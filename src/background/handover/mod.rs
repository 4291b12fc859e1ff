//! An upgrade: a new process takes the listening sockets over from the one that serves, and no client
//! notices.
//!
//! The serving process owns a control socket (`process.control`, mode 0600, the peer's user is
//! checked). The sockets of both processes share one queue each, so nothing that waits in it is lost
//! when one side closes; the gates decide who accepts:
//!
//! | step | new process (`joining`) | serving process (`serving`) |
//! | --- | --- | --- |
//! | 1 | compiles its configuration, says `hello` | |
//! | 2 | | sends duplicates of all listening sockets, goes on accepting |
//! | 3 | binds what is new, starts behind shut gates, says `ready` | |
//! | | takes it | says `state`, as often as there is something large that can go ahead |
//! | 4 | | pauses its gates: connections wait in the queue; says `go` |
//! | 5 | opens its gates; says `accepting` when every accept task has asked once | |
//! | 6 | | says `done` |
//! | 7 | says `serving` | closes its sockets, drains and ends |
//! | 8 | puts its own control socket in the place of the old one | |
//!
//! Whatever fails before 7, the end of the stream among it, opens the serving process's gates again as
//! if nothing had happened, and ends the new one. Should the serving process die instead, the new one
//! goes on alone: it has the sockets.
//!
//! Reloads wait while a hand-over is under way, and are made afterwards if it failed.

mod control;
mod joining;
mod serving;
mod wire;

pub use control::{Answer, Control, Wanted, ask_to_start, serves};
pub use joining::{Joining, TakeOver, join};
pub use serving::{ControlService, Serving};

use std::time::Duration;

/// How long one word may take that asks for no work.
const WORD: Duration = Duration::from_secs(10);
/// How long nobody accepts at most: from `go` to `accepting`. It takes milliseconds.
const GAP: Duration = Duration::from_secs(5);

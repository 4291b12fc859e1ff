//! Requests that go to a second endpoint while the first one is silent; whoever answers first has the client.
//!
//! To Pingora it is one exchange, by a connector of our own: a peer that is marked comes here ([`Hedger`]), and its
//! session holds one connection or, for a while, two. All hooks stay what they are; every other peer goes Pingora's own
//! way. The hooks and the session tell each other by the plan of an attempt ([`Planned`]): the hook that has the request puts it
//! into the head's extensions, the session finds it there, and what came of it is settled by the next hook.

mod connector;
mod leg;
mod plan;
mod session;

pub use connector::Hedger;
pub use plan::{plan, settle};
pub use session::Planned;

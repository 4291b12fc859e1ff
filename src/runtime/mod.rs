//! Model to snapshot to swap: a configuration becomes immutable, and is put in force as a whole.

pub mod body_memory;
mod caches;
pub mod compile;
pub mod current;
mod fallback;
pub mod pages;
pub mod pressure;
mod reach;
pub mod snapshot;

pub use compile::{Compiled, Compiler};
pub use current::Current;
pub use fallback::{Fallback, Step};
pub use reach::Openness;
pub use snapshot::{Listener, Route, Snapshot, Target};

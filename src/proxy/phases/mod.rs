//! The phases of a request, one file a group of hooks, in the order in which they come.

pub mod admit;
pub mod body;
pub mod cache;
pub mod check;
pub mod connect;
pub mod fail;
pub mod fallback;
pub mod finish;
pub mod forward;
pub mod hold;
pub mod overload;
pub mod respond;
pub mod retry;

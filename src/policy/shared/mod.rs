//! What two policies need.

mod caller;
pub mod cel;
pub mod coding;
pub mod digest;
pub mod gcra;
pub mod in_flight;
pub mod key;
pub mod list;
pub mod strip;
pub mod template;
pub mod whole_body;

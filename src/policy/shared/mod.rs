//! What two policies need.

mod caller;
pub mod cel;
pub mod coding;
pub mod cost;
pub mod digest;
pub mod fields;
pub mod gcra;
pub mod in_flight;
pub mod key;
pub mod list;
pub mod store_failure;
pub mod strip;
pub mod template;
pub mod terms;
pub mod whole_body;

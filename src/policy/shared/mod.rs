//! What two policies need.

mod caller;
pub mod cel;
pub mod coding;
pub mod digest;
pub mod gcra;
pub mod key;
pub mod strip;
pub mod template;
pub mod whole_body;

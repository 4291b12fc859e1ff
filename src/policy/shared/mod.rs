//! What two policies need.

pub mod coding;
pub mod strip;
pub mod template;
pub mod whole_body;

//! What two policies need.

pub mod coding;
pub mod cookies;
pub mod template;
pub mod whole_body;

//! What two policies need.

pub mod template;

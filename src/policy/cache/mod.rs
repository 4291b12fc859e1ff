//! Answers are kept and served again (RFC 9111). What a route says of it is here; the rules are in
//! `cache::rules`, which read the [`Settings`].

mod settings;

pub use settings::{Query, SetCookie, Settings};

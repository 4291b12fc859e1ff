//! Login of people with a browser (OpenID Connect Core 1.0, authorisation code flow).
//!
//! Nothing of a session is kept here: the browser keeps it, sealed, so that any gateway with the
//! same keys knows it. What is remembered for a while is what must not happen twice.

pub mod attempt;
mod compile;
mod config;
pub mod cookies;
mod id_token;
mod issuer;
mod lately;
mod login;
mod logout;
mod metadata;
mod page;
mod provider;
mod refresh;
pub mod return_to;
pub mod seal;
pub mod session;
mod tokens;
mod visit;

pub use config::OidcConfig;
pub use cookies::Jar;
pub use provider::{Answer, Caller, Oidc, Place};
pub use return_to::ReturnTo;
pub use session::Session as LoginSession;
pub use visit::is_navigation;

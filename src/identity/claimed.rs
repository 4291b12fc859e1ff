//! From claims that were checked to a principal.

use super::claims::seconds;
use super::principal::{Method, Principal};
use super::{Consumers, scopes};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Whose these claims are, among known consumers.
pub(super) fn principal(
    (method, provider): (Method, &Arc<str>),
    subject: Box<str>,
    claims: Map<String, Value>,
    consumers: &Consumers,
) -> Principal {
    let scopes = scopes::of(&claims);
    let token_id = claims.get("jti").and_then(Value::as_str).map(Into::into);
    let (issued_at, expires_at) = (seconds(&claims, "iat"), seconds(&claims, "exp"));
    let claims = Value::Object(claims);
    let consumer = consumers.of(provider, &subject, &claims);
    let provider = Some(Arc::clone(provider));
    Principal { method, provider, subject, consumer, claims, scopes, token_id, issued_at, expires_at }
}

/// The same caller among other consumers, as they are after a reload.
pub(super) fn among(principal: &Arc<Principal>, consumers: &Consumers) -> Arc<Principal> {
    let provider = principal.provider.as_deref().unwrap_or_default();
    let consumer = consumers.of(provider, &principal.subject, &principal.claims);
    if consumer == principal.consumer {
        return Arc::clone(principal);
    }
    Arc::new(Principal { consumer, ..Principal::clone(principal) })
}

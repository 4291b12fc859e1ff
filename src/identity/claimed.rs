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
    Principal {
        method,
        provider: Some(Arc::clone(provider)),
        consumer: consumers.by_subject(provider, &subject).map(Arc::clone),
        scopes: scopes::of(&claims),
        token_id: claims.get("jti").and_then(Value::as_str).map(Into::into),
        issued_at: seconds(&claims, "iat"),
        expires_at: seconds(&claims, "exp"),
        subject,
        claims: Value::Object(claims),
    }
}

/// The same caller among other consumers, as they are after a reload.
pub(super) fn among(principal: &Arc<Principal>, consumers: &Consumers) -> Arc<Principal> {
    let provider = principal.provider.as_deref().unwrap_or_default();
    let consumer = consumers.by_subject(provider, &principal.subject);
    if consumer == principal.consumer.as_ref() {
        return Arc::clone(principal);
    }
    Arc::new(Principal { consumer: consumer.map(Arc::clone), ..Principal::clone(principal) })
}

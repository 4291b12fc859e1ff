use serde_json::Value;
use std::sync::Arc;

/// Who calls, once something has proved it. Shared: whoever calls again gets the same one.
#[derive(Clone, Debug)]
pub struct Principal {
    /// How it was proved.
    pub method: Method,
    /// By which provider, if by one.
    pub provider: Option<Arc<str>>,
    /// A token's `sub`, a user's name, a certificate's subject, a consumer's name.
    pub subject: Box<str>,
    /// The consumer that this is.
    pub consumer: Option<Arc<Consumer>>,
    /// What is claimed, an object; empty where a method has no claims.
    pub claims: Value,
    /// What it may be used for (RFC 8693 section 4.2).
    pub scopes: Box<[Box<str>]>,
    /// The token's own name, `jti` (RFC 7519 section 4.1.7).
    pub token_id: Option<Box<str>>,
    /// When it was issued, in seconds since 1970.
    pub issued_at: Option<u64>,
    /// From when on it does not count any more, in seconds since 1970.
    pub expires_at: Option<u64>,
}

/// A known caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: Box<str>,
    /// Its plan's name.
    pub plan: Option<Arc<str>>,
    /// The tenant that it belongs to: a customer with several consumers.
    pub tenant: Option<Arc<str>>,
    /// The groups that it belongs to.
    pub groups: Arc<[Box<str>]>,
}

/// How a caller was proved to be who it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the words are the whole meaning")]
pub enum Method {
    Jwt,
    Introspection,
    Oidc,
    ApiKey,
    Basic,
    Certificate,
    Signature,
    Forward,
}

impl Method {
    /// As configurations, logs and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Introspection => "introspection",
            Self::Oidc => "oidc",
            Self::ApiKey => "api_key",
            Self::Basic => "basic",
            Self::Certificate => "certificate",
            Self::Signature => "signature",
            Self::Forward => "forward",
        }
    }
}

impl Consumer {
    /// A consumer of whom nothing is known but its name.
    pub fn named(name: impl Into<Box<str>>) -> Self {
        Self { name: name.into(), plan: None, tenant: None, groups: Arc::default() }
    }
}

impl Principal {
    /// A caller of whom nothing is known but who it is.
    pub fn new(method: Method, subject: impl Into<Box<str>>) -> Self {
        Self {
            method,
            provider: None,
            subject: subject.into(),
            consumer: None,
            claims: Value::Object(serde_json::Map::new()),
            scopes: Box::default(),
            token_id: None,
            issued_at: None,
            expires_at: None,
        }
    }

    /// A caller that is this consumer.
    pub fn of(method: Method, subject: impl Into<Box<str>>, consumer: Arc<Consumer>) -> Self {
        Self { consumer: Some(consumer), ..Self::new(method, subject) }
    }

    /// True if both are the same caller: the same consumer, or without one the same subject of the
    /// same provider and method.
    pub fn is_same_caller(&self, other: &Self) -> bool {
        match (&self.consumer, &other.consumer) {
            (Some(one), Some(other)) => one.name == other.name,
            (None, None) => {
                self.method == other.method
                    && self.provider == other.provider
                    && self.subject == other.subject
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_agree_by_consumer_and_else_by_subject() {
        let known = |method, subject: &str, name: &str| {
            Principal::of(method, subject, Arc::new(Consumer::named(name)))
        };
        let cert = known(Method::Certificate, "CN=a", "acme");
        assert!(cert.is_same_caller(&known(Method::Jwt, "17", "acme")));
        assert!(!cert.is_same_caller(&known(Method::Certificate, "CN=a", "other")));
        assert!(!cert.is_same_caller(&Principal::new(Method::Certificate, "CN=a")));
        let unknown = Principal::new(Method::Jwt, "17");
        assert!(unknown.is_same_caller(&Principal::new(Method::Jwt, "17")));
        assert!(!unknown.is_same_caller(&Principal::new(Method::Jwt, "18")));
        assert!(!unknown.is_same_caller(&Principal::new(Method::Basic, "17")));
        let of_a_provider = Principal { provider: Some("a".into()), ..Principal::new(Method::Jwt, "17") };
        assert!(!unknown.is_same_caller(&of_a_provider));
    }
}

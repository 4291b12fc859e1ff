//! The caller that `tollgate explain` asks for.

use crate::identity::certificate::ClientCertificate;
use crate::identity::{Consumer, Identity, Method, Principal};
use crate::values::Problem;
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::Arc;

/// Who is said to call. Nothing of it is proved: it is a question.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// A consumer, by name.
    pub consumer: Option<String>,
    /// The claims of a token: a JSON object, or `@` and the path of a file with one.
    pub claims: Option<String>,
    /// The provider of the token, by which its subject may be a consumer's.
    pub provider: Option<String>,
    /// Scopes besides those in the claims.
    pub scopes: Vec<String>,
}

impl Caller {
    /// The caller as policies would see it; none if nothing was said.
    ///
    /// # Errors
    /// There is no such consumer, or the claims are none.
    pub(super) fn principal(
        &self,
        identity: &Identity,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Option<Principal>, Problem> {
        if self.consumer.is_none() && self.claims.is_none() && self.scopes.is_empty() {
            return certificate.map(|certificate| of_certificate(identity, certificate)).transpose();
        }
        let claims = self.claims.as_deref().map(read).transpose()?.unwrap_or_default();
        let by_token = self.claims.is_some() || !self.scopes.is_empty();
        let subject = claims.get("sub").and_then(Value::as_str).map(str::to_owned);
        let said = scopes(&claims).chain(self.scopes.iter().map(String::as_str)).map(Box::from).collect();
        let claims = Value::Object(claims);
        let consumer = self.find(identity, subject.as_deref(), &claims)?;
        let of_consumer = || consumer.as_ref().map(|consumer| consumer.name.to_string());
        let subject = subject.or_else(of_consumer).unwrap_or_default();
        Ok(Some(Principal {
            provider: self.provider.as_deref().map(Arc::from),
            consumer,
            claims,
            scopes: said,
            ..Principal::new(if by_token { Method::Jwt } else { Method::ApiKey }, subject)
        }))
    }

    fn find(
        &self,
        identity: &Identity,
        subject: Option<&str>,
        claims: &Value,
    ) -> Result<Option<Arc<Consumer>>, Problem> {
        let consumers = identity.consumers();
        if let Some(name) = &self.consumer {
            let unknown = || Problem::new(format!("there is no consumer `{name}`"));
            return consumers.by_name(name).cloned().map(Some).ok_or_else(unknown);
        }
        let provider = self.provider.as_deref();
        Ok(provider.and_then(|provider| consumers.of(provider, subject.unwrap_or_default(), claims)))
    }
}

fn of_certificate(identity: &Identity, certificate: &ClientCertificate) -> Result<Principal, Problem> {
    let consumer = identity.consumers().by_certificate(certificate);
    let consumer = consumer.map_err(|_| {
        Problem::new(format!("the certificate of `{}` is several consumers'", certificate.subject))
            .remedy("take all but one of these credentials away")
    })?;
    Ok(Principal {
        consumer: consumer.map(Arc::clone),
        ..Principal::new(Method::Certificate, certificate.subject.as_str())
    })
}

/// `scope` is one text (RFC 8693 section 4.2); some issuers write lists.
fn scopes(claims: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let lists = ["scp", "scopes"].into_iter().filter_map(|name| claims.get(name));
    let texts = ["scope", "scp"].into_iter().filter_map(|name| claims.get(name)?.as_str());
    let of_lists = lists.filter_map(Value::as_array).flatten().filter_map(Value::as_str);
    texts.flat_map(str::split_ascii_whitespace).chain(of_lists)
}

fn read(text: &str) -> Result<Map<String, Value>, Problem> {
    let text = match text.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(Path::new(path))
            .map_err(|error| Problem::new(format!("`{path}` cannot be read: {error}")))?,
        None => text.to_owned(),
    };
    serde_json::from_str(&text).map_err(|error| {
        Problem::new(format!("the claims are not a JSON object: {error}")).remedy(
            "write `--claims '{\"sub\": \"u-17\", \"scope\": \"orders:read\"}'`, or `--claims @claims.json`",
        )
    })
}

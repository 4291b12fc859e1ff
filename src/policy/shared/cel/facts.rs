//! What an expression may ask about: the table of variables, and their values for one request.

use super::evaluate::Fault;
use super::kind::Kind;
use super::value::{List, Value};
use crate::identity::Principal;
use crate::identity::certificate::ClientTls;
use crate::message::authority;
use crate::policy::context::PolicyContext;
use percent_encoding::percent_decode_str;
use pingora_http::RequestHeader;
use std::borrow::Cow;

/// What is known of a request when an expression is asked.
#[derive(Debug)]
pub struct Facts<'a> {
    head: &'a RequestHeader,
    cx: &'a PolicyContext,
}

/// A variable with one value for each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Method,
    Path,
    Host,
    Scheme,
    /// A parameter of the route's path, by slot.
    Param(usize),
    ClientIp,
    Subject,
    Consumer,
    Plan,
    Tenant,
    Groups,
    Scopes,
    Claims,
    Credential,
    Provider,
    TlsVersion,
    Sni,
    CertificateSubject,
    CertificateSerial,
    CertificateFingerprint,
    CertificateDns,
    CertificateUris,
    CertificateEmails,
}

/// Named values that are looked for in the request when they are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    Headers,
    Query,
    Cookies,
}

/// What stands behind the name of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    Fact(Fact),
    Lookup(Lookup),
    /// The parameters of the route's path.
    Params,
}

/// All variables.
pub(super) const VARIABLES: &[(&str, Variable)] = &[
    ("request.method", Variable::Fact(Fact::Method)),
    ("request.path", Variable::Fact(Fact::Path)),
    ("request.host", Variable::Fact(Fact::Host)),
    ("request.scheme", Variable::Fact(Fact::Scheme)),
    ("request.headers", Variable::Lookup(Lookup::Headers)),
    ("request.query", Variable::Lookup(Lookup::Query)),
    ("request.cookies", Variable::Lookup(Lookup::Cookies)),
    ("request.params", Variable::Params),
    ("principal.subject", Variable::Fact(Fact::Subject)),
    ("principal.consumer", Variable::Fact(Fact::Consumer)),
    ("principal.plan", Variable::Fact(Fact::Plan)),
    ("principal.tenant", Variable::Fact(Fact::Tenant)),
    ("principal.groups", Variable::Fact(Fact::Groups)),
    ("principal.scopes", Variable::Fact(Fact::Scopes)),
    ("principal.claims", Variable::Fact(Fact::Claims)),
    ("principal.method", Variable::Fact(Fact::Credential)),
    ("principal.provider", Variable::Fact(Fact::Provider)),
    ("client.ip", Variable::Fact(Fact::ClientIp)),
    ("tls.version", Variable::Fact(Fact::TlsVersion)),
    ("tls.sni", Variable::Fact(Fact::Sni)),
    ("tls.client.subject", Variable::Fact(Fact::CertificateSubject)),
    ("tls.client.serial", Variable::Fact(Fact::CertificateSerial)),
    ("tls.client.fingerprint", Variable::Fact(Fact::CertificateFingerprint)),
    ("tls.client.dns", Variable::Fact(Fact::CertificateDns)),
    ("tls.client.uris", Variable::Fact(Fact::CertificateUris)),
    ("tls.client.emails", Variable::Fact(Fact::CertificateEmails)),
];

impl Fact {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Groups
            | Self::Scopes
            | Self::CertificateDns
            | Self::CertificateUris
            | Self::CertificateEmails => Kind::list(Kind::Text),
            Self::Claims => Kind::Map,
            _ => Kind::Text,
        }
    }

    fn name(self) -> &'static str {
        let is_it = |(_, variable): &&(&str, Variable)| *variable == Variable::Fact(self);
        VARIABLES.iter().find(is_it).map_or("request.params", |(name, _)| name)
    }
}

impl Lookup {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Headers => "request.headers",
            Self::Query => "request.query",
            Self::Cookies => "request.cookies",
        }
    }
}

impl<'a> Facts<'a> {
    /// What is known when the policies run.
    pub const fn new(head: &'a RequestHeader, cx: &'a PolicyContext) -> Self {
        Self { head, cx }
    }

    /// The value of a variable; what is not there is an error, so that no condition holds because
    /// nobody is known.
    pub(super) fn get(&'a self, fact: Fact) -> Result<Value<'a>, Fault<'a>> {
        let value = match fact {
            Fact::Method => Some(Value::text(self.head.method.as_str())),
            Fact::Path => Some(Value::text(self.cx.path(self.head))),
            Fact::Host => Some(Value::Text(lower_case(authority::host(authority::authority(self.head))))),
            Fact::Scheme => Some(Value::text(self.cx.scheme())),
            Fact::Param(slot) => {
                decode(self.cx.params.get(slot, self.cx.path(self.head)), false).map(Value::Text)
            }
            Fact::ClientIp => Some(Value::Text(self.cx.client.to_canonical().to_string().into())),
            Fact::TlsVersion
            | Fact::Sni
            | Fact::CertificateSubject
            | Fact::CertificateSerial
            | Fact::CertificateFingerprint
            | Fact::CertificateDns
            | Fact::CertificateUris
            | Fact::CertificateEmails => self.cx.tls.as_deref().and_then(|tls| of_tls(tls, fact)),
            _ => self.cx.principal.as_deref().and_then(|principal| of_caller(principal, fact)),
        };
        value.ok_or_else(|| Fault { what: "is not there", name: fact.name() })
    }

    /// A named value of the request, if there is one.
    ///
    /// # Errors
    /// There is more than one, or it is no text: whoever reads the request next might choose another.
    pub(super) fn look_up(&'a self, lookup: Lookup, name: &str) -> Result<Option<Value<'a>>, Fault<'a>> {
        let fault = |what| Fault { what, name: lookup.name() };
        let mut values = self.values(lookup, name);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(fault("has it more than once"));
        }
        value.map(|text| Some(Value::Text(text))).ok_or_else(|| fault("has it, but not as text"))
    }

    pub(super) fn is_there(&'a self, lookup: Lookup, name: &str) -> Result<bool, Fault<'a>> {
        Ok(self.values(lookup, name).next().is_some())
    }

    fn values<'n>(
        &'a self,
        lookup: Lookup,
        name: &'n str,
    ) -> Box<dyn Iterator<Item = Option<Cow<'a, str>>> + 'n>
    where
        'a: 'n,
    {
        match lookup {
            Lookup::Headers => Box::new(
                self.head
                    .headers
                    .get_all(name)
                    .iter()
                    .map(|value| std::str::from_utf8(value.as_bytes()).ok().map(Cow::Borrowed)),
            ),
            Lookup::Query => Box::new(
                self.head
                    .uri
                    .query()
                    .unwrap_or("")
                    .split('&')
                    .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                    .filter(move |(key, _)| decode(key, true).is_some_and(|key| key == name))
                    .map(|(_, value)| decode(value, true)),
            ),
            Lookup::Cookies => Box::new(
                self.head
                    .headers
                    .get_all(http::header::COOKIE)
                    .iter()
                    .filter_map(|line| std::str::from_utf8(line.as_bytes()).ok())
                    .flat_map(|line| line.split(';'))
                    .filter_map(|pair| pair.trim().split_once('='))
                    .filter(move |(key, _)| *key == name)
                    .map(|(_, value)| Some(Cow::Borrowed(value))),
            ),
        }
    }

    /// About how much work a look-up is, for the budget.
    pub(super) fn weight(&self, lookup: Lookup) -> usize {
        match lookup {
            Lookup::Headers => 1,
            Lookup::Query => self.head.uri.query().map_or(0, str::len) / 64,
            Lookup::Cookies => {
                self.head.headers.get_all(http::header::COOKIE).iter().map(|line| line.len() / 64 + 1).sum()
            }
        }
    }
}

fn of_caller(principal: &Principal, fact: Fact) -> Option<Value<'_>> {
    let consumer = principal.consumer.as_deref();
    match fact {
        Fact::Subject => Some(Value::text(&principal.subject)),
        Fact::Consumer => consumer.map(|consumer| Value::text(&consumer.name)),
        Fact::Tenant => consumer.and_then(|consumer| consumer.tenant.as_deref()).map(Value::text),
        Fact::Plan => consumer.and_then(|consumer| consumer.plan.as_deref()).map(Value::text),
        Fact::Groups => Some(Value::List(List::Names(consumer.map_or(&[], |consumer| &*consumer.groups)))),
        Fact::Scopes => Some(Value::List(List::Names(&principal.scopes))),
        Fact::Claims => principal.claims.as_object().map(Value::Map),
        Fact::Credential => Some(Value::text(principal.method.as_str())),
        Fact::Provider => principal.provider.as_deref().map(Value::text),
        _ => None,
    }
}

fn of_tls(tls: &ClientTls, fact: Fact) -> Option<Value<'_>> {
    let names = |names| Some(Value::List(List::Names(names)));
    let certificate = tls.certificate.as_deref();
    match fact {
        Fact::TlsVersion => Some(Value::text(tls.version)),
        Fact::Sni => tls.sni.as_deref().map(Value::text),
        Fact::CertificateSubject => certificate.map(|certificate| Value::text(certificate.subject.as_str())),
        Fact::CertificateSerial => certificate.map(|certificate| Value::text(&certificate.serial)),
        Fact::CertificateFingerprint => certificate.map(|certificate| Value::text(&certificate.fingerprint)),
        Fact::CertificateDns => names(&certificate?.dns),
        Fact::CertificateUris => names(&certificate?.uris),
        Fact::CertificateEmails => names(&certificate?.emails),
        _ => None,
    }
}

fn lower_case(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        text.to_ascii_lowercase().into()
    } else {
        text.into()
    }
}

/// Text behind escapes; in a query `+` stands for a space. None if it is not UTF-8.
fn decode(text: &str, query: bool) -> Option<Cow<'_, str>> {
    if query && text.contains('+') {
        let spaced = text.replace('+', " ");
        return percent_decode_str(&spaced).decode_utf8().ok().map(|text| text.into_owned().into());
    }
    percent_decode_str(text).decode_utf8().ok()
}

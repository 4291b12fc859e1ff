//! Another service is asked who calls.

use super::{Admission, Attempt, Outcome, Refusal};
use crate::identity::Identity;
use crate::identity::forward::{Allowed, Asking, Forward, Told};
use crate::identity::oidc::Jar;
use crate::policy::Reply;
use crate::policy::context::{HeaderEdit, PolicyContext};
use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora_http::{RequestHeader, ResponseHeader};
use std::sync::Arc;

/// Nobody registered a scheme for what another service decides; a 401 must have one all the same.
pub(super) const CHALLENGE: HeaderValue = HeaderValue::from_static("Forward realm=\"tollgate\"");

/// A provider, with what it is not told.
#[derive(Debug)]
pub(super) struct Asked {
    provider: Arc<Forward>,
    jars: Box<[Jar]>,
}

impl Asked {
    pub(super) fn new(provider: &Arc<Forward>, identity: &Identity) -> Self {
        Self { provider: Arc::clone(provider), jars: identity.jars().into() }
    }
}

pub(super) fn attempt<'a>(asked: &'a Asked, head: &'a RequestHeader, cx: &PolicyContext) -> Attempt<'a> {
    let provider = &*asked.provider;
    if !provider.is_asked_about(head) {
        return Attempt::Absent;
    }
    let question = provider.question(&Asking {
        head,
        jars: &asked.jars,
        path: cx.path(head),
        scheme: cx.scheme(),
        host: cx.authority(head),
        client: cx.client,
        id: cx.request_id(),
    });
    match provider.known(&question) {
        Some(allowed) => Attempt::Admitted(admission(provider, &allowed)),
        None => Attempt::Wait(Box::pin(async move { outcome(provider, provider.ask(question).await) })),
    }
}

fn outcome(provider: &Forward, told: Told) -> Outcome {
    let refused = |cause, detail| Outcome::Refused(Refusal::new(cause, detail));
    let unavailable =
        |cause, detail| Outcome::Refused(Refusal { unavailable: true, ..Refusal::new(cause, detail) });
    match told {
        Told::Allowed(allowed) => Outcome::Admitted(admission(provider, &allowed)),
        Told::Refused(StatusCode::FORBIDDEN) => Outcome::Refused(Refusal {
            forbidden: true,
            ..Refusal::new("forward_forbidden", "the service said 403")
        }),
        Told::Refused(status) => Outcome::Refused(Refusal {
            detail: format!("the service said {}", status.as_u16()).into(),
            ..Refusal::new("forward_refused", "")
        }),
        Told::Passed(status, headers, body) => match reply(status, &headers, body) {
            Ok(reply) => Outcome::Answer("forward_refused", Box::new(reply)),
            Err(_) => refused("forward_refused", "its answer could not be written"),
        },
        Told::Nameless => refused("forward_nameless", "the service lets in nobody knows whom"),
        Told::Down => unavailable("forward_down", "the service does not answer"),
        Told::Busy => unavailable("forward_busy", "the service is asked about too many others"),
    }
}

fn admission(provider: &Forward, allowed: &Allowed) -> Admission {
    let add = |(name, value): &(HeaderName, HeaderValue)| HeaderEdit::Add(name.clone(), value.clone());
    let edits = allowed.fields.iter().map(add).collect();
    Admission { edits, ..Arc::new(provider.principal(allowed)).into() }
}

fn reply(status: StatusCode, headers: &HeaderMap, body: Bytes) -> pingora_error::Result<Reply> {
    let mut head = ResponseHeader::build_no_case(status, Some(headers.len() + 2))?;
    for (name, value) in headers {
        head.append_header(name.clone(), value.clone())?;
    }
    // It is about this one caller.
    if !headers.contains_key(CACHE_CONTROL) {
        head.insert_header(CACHE_CONTROL, "no-store")?;
    }
    Ok(Reply { head, body })
}

/// Takes away what only the service may say, whoever lets the request in.
pub(super) fn strip(asked: &Asked, cx: &mut PolicyContext) {
    for name in asked.provider.taken() {
        cx.edits.headers.push(HeaderEdit::Remove(name.clone()));
        // Some servers behind take both for the same.
        if let Ok(twin) = HeaderName::try_from(name.as_str().replace('-', "_")) {
            cx.edits.headers.push(HeaderEdit::Remove(twin));
        }
    }
}

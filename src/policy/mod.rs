//! What may happen to a request: the policies, the contract that each of them keeps, and the
//! fixed order in which they run.
//!
//! A policy is one file or one folder. It is compiled once, when a configuration is; it never
//! sees a session; and users choose which policies a route has, never their order.

pub mod authenticate;
pub mod authorize;
pub mod body_limit;
pub mod cache;
pub mod chain;
pub mod compress;
pub mod concurrency;
pub mod config;
pub mod content_digest;
pub mod context;
pub mod cors;
pub mod fault;
pub mod flood;
pub mod grpc_web;
pub mod headers;
pub mod ip_access;
pub mod quota;
pub mod rate_limit;
pub mod rewrite;
pub mod shared;
pub mod upstream_auth;

use crate::identity::Identity;
use crate::outbound::redis::Stores;
use crate::rejection::Rejection;
use crate::retained::Retained;
use crate::telemetry::metrics::Metrics;
use crate::values::{ConfigPath, Finding, Name, Problem};
use bytes::Bytes;
use context::PolicyContext;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use pingora_http::{RequestHeader, ResponseHeader};
use shared::template::Scope;
use std::cell::RefCell;
use std::sync::Arc;

/// What a policy is compiled with.
#[derive(Default)]
pub struct CompileEnv<'a> {
    /// What its templates may refer to.
    pub scope: Scope<'a>,
    /// Who calls, and who vouches for them.
    pub identity: Arc<Identity>,
    /// What gateways share.
    pub stores: Arc<Stores>,
    /// State that outlives a configuration.
    pub retained: Arc<Retained>,
    /// What is counted; none outside of a gateway.
    pub metrics: Option<Arc<Metrics>>,
    /// How many keys limits remember, all together.
    pub limit_keys: usize,
    /// How many keys quotas remember, all together.
    pub quota_keys: usize,
    /// The names of the caches.
    pub caches: Box<[Name]>,
    /// Where the policy that is compiled stands, from the root.
    pub place: RefCell<ConfigPath>,
}

/// The contract of a policy.
pub trait Policy: Sized {
    /// Its key under `policies`.
    const NAME: &'static str;
    /// Whether it looks at the bodies of requests. If so its `on_request` says at which, by
    /// [`PolicyContext::need_body`].
    const READS_REQUESTS: bool = false;
    /// Whether it looks at the bodies of answers. If so its `on_response` says for which, by
    /// [`PolicyContext::watches_answer`].
    const READS_ANSWERS: bool = false;
    /// Whether it refuses for how much there is. Such a refusal costs nothing at the other policies of its kind.
    const LIMITS: bool = false;
    /// Its text side.
    type Config;

    /// Makes of the text what requests are checked with.
    ///
    /// # Errors
    /// What is wrong, each with its path from the policy's own key.
    fn compile(config: &Self::Config, env: &CompileEnv<'_>) -> Result<Self, Vec<Finding>>;

    /// True if there is nothing for it to do: it is left out.
    fn is_idle(&self) -> bool {
        false
    }

    /// False if its `on_response` has nothing to do: it is not called.
    fn sees_answers(&self) -> bool {
        true
    }

    /// The head of a request came.
    fn on_request<'a>(&'a self, _head: &'a RequestHeader, _cx: &'a mut PolicyContext) -> Step<'a> {
        Step::Continue
    }

    /// A policy that [`Self::LIMITS`] refuses the request, or the upstream has no room for it: what this one took
    /// of what it counts, it gives back. To do it twice changes nothing.
    fn give_back(&self, _cx: &mut PolicyContext) {}

    /// The body of a request that it needed, whole; nothing of it has gone anywhere.
    ///
    /// # Errors
    /// The request is refused.
    fn on_request_body(
        &self,
        _head: &RequestHeader,
        _body: &Bytes,
        _cx: &mut PolicyContext,
    ) -> Result<(), Box<Rejection>> {
        Ok(())
    }

    /// The head of an answer goes out: the upstream's, a cached one, or our own.
    fn on_response(&self, _request: &RequestHeader, _answer: &mut ResponseHeader, _cx: &mut PolicyContext) {}

    /// The trailers of an answer whose body it watches. They come before the end of the body, and do not
    /// go to the client if something is put there in their place.
    fn on_response_trailers(&self, _trailers: &HeaderMap, _cx: &mut PolicyContext) {}

    /// A piece of an answer's body, on its way to the client, if it [`Self::READS_ANSWERS`]. It may be
    /// replaced by anything, also by nothing; the piece at the `end` may be `None`.
    ///
    /// # Errors
    /// The answer cannot go on. The connection is cut: its head is with the client already.
    fn on_response_body(
        &self,
        _body: &mut Option<Bytes>,
        _end: bool,
        _cx: &mut PolicyContext,
    ) -> Result<(), Box<Rejection>> {
        Ok(())
    }
}

/// What a policy says to a request.
pub enum Step<'a> {
    /// Nothing against it.
    Continue,
    /// This is the answer; nothing goes upstream.
    Answer(Box<Reply>),
    /// It is refused.
    Reject(Box<Rejection>),
    /// Something has to be asked first. The future has a deadline of its own.
    Wait(BoxFuture<'a, Verdict>),
}

/// What becomes of a request after the policies.
#[derive(Debug)]
pub enum Verdict {
    /// It goes on.
    Continue,
    /// This is the answer; nothing goes upstream.
    Answer(Box<Reply>),
    /// It is refused.
    Reject(Box<Rejection>),
}

/// An answer that a policy or a target gives by itself.
#[derive(Debug)]
pub struct Reply {
    /// Status and header fields, without Content-Length.
    pub head: ResponseHeader,
    /// The body.
    pub body: Bytes,
}

impl Step<'_> {
    /// A refusal.
    pub fn reject(rejection: Rejection) -> Self {
        Self::Reject(Box::new(rejection))
    }
}

/// One finding at `key` of the policy's own configuration.
fn at(key: &str, problem: Problem) -> Finding {
    Finding::error(ConfigPath::root().key(key), problem)
}

//! What a policy may see and change of a request: never a session, never another policy's state.

use super::compress::Coder;
use super::shared::in_flight::Permit;
use super::shared::whole_body::WholeBody;
use super::{grpc_web, quota, rate_limit};
use crate::identity::Principal;
use crate::identity::certificate::ClientTls;
use crate::message::{authority, params::Params};
use crate::telemetry::request_id::RequestId;
use crate::values::Sha256;
use http::{HeaderName, HeaderValue};
use pingora_http::RequestHeader;
use std::net::IpAddr;
use std::sync::Arc;

/// A request as the policies see it. A field of the request's context, lent to each policy in
/// turn, never copied between phases.
#[derive(Debug)]
pub struct PolicyContext {
    /// The client's address: the peer's, or what a trusted proxy says.
    pub client: IpAddr,
    /// True where the client speaks TLS, or a trusted proxy says so.
    pub secure: bool,
    /// What TLS settled with whoever is at the other end of the connection; `None` in the clear.
    pub tls: Option<Arc<ClientTls>>,
    /// The id of this request, for logs here and upstream.
    pub request_id: Option<RequestId>,
    /// The normalised path, where it differs from what the client sent.
    pub normalised: Option<Box<str>>,
    /// Who calls, once `authenticate` knows.
    pub principal: Option<Arc<Principal>>,
    /// Why a credential was refused, for the log.
    pub auth_cause: Option<&'static str>,
    /// Cookies that the answer sets.
    pub set_cookies: Vec<HeaderValue>,
    /// The signature that let the request in, if one did.
    pub signature: Option<Sha256>,
    /// What a signature says of the body, if one does.
    pub signed_body: Option<SignedBody>,
    /// What the route's path bound.
    pub params: Params,
    /// What policies change on the way upstream.
    pub edits: Edits,
    /// The largest request body in bytes.
    pub body_limit: u64,
    /// How the request's body is to be held, if a policy has to see it whole.
    pub body_need: Option<WholeBody>,
    /// `rate_limit`: what limits did to it.
    pub limits: Vec<rate_limit::Mark>,
    /// `quota`: what quotas did to it.
    pub quotas: Vec<quota::Mark>,
    /// `concurrency`: what it is in flight by. They are given back with this.
    pub permits: Vec<Permit>,
    /// `flood`: that it is in flight. It is given back with this.
    pub flight: Option<pingora_limits::inflight::Guard>,
    /// Whether a policy wants to see the answer's body.
    pub watches_answer: bool,
    /// `compress`: what codes the answer, unless it stays as it is.
    pub coder: Option<Coder>,
    /// `grpc_web`: the call, if it is one that is translated.
    pub web_call: Option<Box<grpc_web::Call>>,
}

impl PolicyContext {
    /// Before anything is known of the request.
    pub fn new() -> Self {
        Self {
            client: IpAddr::from([0, 0, 0, 0]),
            secure: false,
            tls: None,
            request_id: None,
            normalised: None,
            principal: None,
            auth_cause: None,
            set_cookies: Vec::new(),
            signature: None,
            signed_body: None,
            params: Params::NONE,
            edits: Edits::default(),
            body_limit: u64::MAX,
            body_need: None,
            limits: Vec::new(),
            quotas: Vec::new(),
            permits: Vec::new(),
            flight: None,
            watches_answer: false,
            coder: None,
            web_call: None,
        }
    }

    /// The part of it that a request has which is made of this one, to fetch for all: who calls, and what
    /// policies change; nothing that is in flight or given back.
    #[must_use]
    pub fn for_fill(&self) -> Self {
        Self {
            client: self.client,
            secure: self.secure,
            tls: self.tls.clone(),
            request_id: self.request_id.clone(),
            normalised: self.normalised.clone(),
            principal: self.principal.clone(),
            params: self.params,
            edits: self.edits.clone(),
            ..Self::new()
        }
    }

    /// The one path that is matched, authorised and forwarded.
    pub fn path<'a>(&'a self, head: &'a RequestHeader) -> &'a str {
        self.normalised.as_deref().unwrap_or_else(|| head.uri.path())
    }

    /// The request's id as text; empty before it has one.
    pub fn request_id(&self) -> &str {
        self.request_id.as_ref().map_or("", RequestId::as_str)
    }

    /// The name of the caller's plan, if it has one.
    pub fn plan(&self) -> Option<&str> {
        self.principal.as_deref()?.consumer.as_deref()?.plan.as_deref()
    }

    /// A policy has to see the request's body whole; its `on_request_body` will.
    pub fn need_body(&mut self, need: WholeBody) {
        self.body_need = Some(self.body_need.map_or(need, |known| known.and(need)));
    }

    /// Forgets what policies noted of an answer: another one goes out.
    pub fn forget_answer(&mut self) {
        if self.watches_answer {
            self.watches_answer = false;
            self.coder = None;
        }
    }

    /// The scheme that the client used.
    pub const fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The authority as the upstream will see it, unless the upstream has one of its own.
    pub fn authority<'a>(&'a self, head: &'a RequestHeader) -> &'a str {
        self.edits
            .host
            .as_ref()
            .and_then(|host| host.to_str().ok())
            .unwrap_or_else(|| authority::authority(head))
    }
}

impl Default for PolicyContext {
    fn default() -> Self {
        Self::new()
    }
}

/// What a signature says of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedBody {
    /// It is what the digests say that were signed.
    Digest,
    /// Nothing: so there must be none.
    Empty,
}

/// What policies change on the way upstream. Recorded here and applied to the upstream's copy of
/// the request; the client's head stays as it came.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// Another path, without the query.
    pub path: Option<String>,
    /// Another query; empty is none.
    pub query: Option<String>,
    /// Another Host.
    pub host: Option<HeaderValue>,
    /// Header fields, in the order in which they are changed.
    pub headers: Vec<HeaderEdit>,
}

/// One change of a header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderEdit {
    /// All values of this field go.
    Remove(HeaderName),
    /// The field has this value afterwards, and no other.
    Set(HeaderName, HeaderValue),
    /// The field has this value besides those that it has.
    Add(HeaderName, HeaderValue),
    /// All cookies of this name go.
    RemoveCookie(Box<str>),
}

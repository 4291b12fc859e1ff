//! THE LIST: which policies there are and in which order they run; and the chain that a route's
//! layers are compiled to.

use super::authenticate::Authenticate;
use super::authorize::Authorize;
use super::cache::Cache;
use super::concurrency::{Bound, Concurrency};
use super::config::{EnforcedPolicies, Policies, Setting};
use super::context::PolicyContext;
use super::fault::Fault;
use super::flood::Flood;
use super::quota::{Allowance, Quotas};
use super::rate_limit::{CallerLimits, ClientLimits, Limit};
use super::upstream_auth::UpstreamAuth;
use super::{CompileEnv, Policy, Step, Verdict};
use super::{body_limit::BodyLimit, compress::Compress, content_digest::ContentDigest, cors::Cors};
use super::{grpc_web::GrpcWeb, headers::Headers, ip_access::IpAccess, rewrite::Rewrite};
use crate::rejection::Rejection;
use crate::values::{ConfigPath, Finding};
use bytes::Bytes;
use http::HeaderMap;
use pingora_http::{RequestHeader, ResponseHeader};

/// The layers that hold for a route, from the outermost to the innermost.
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a> {
    /// What no route can switch off.
    pub enforced: &'a EnforcedPolicies,
    /// Layers with their paths in the configuration: the gateway's defaults, the listener's, the
    /// route's. A later one replaces a policy of the same name as a whole.
    pub layers: &'a [(ConfigPath, &'a Policies)],
}

/// Where a policy in force comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its key.
    pub name: &'static str,
    /// Where it stands in the configuration.
    pub path: ConfigPath,
    /// True if no route can switch it off.
    pub enforced: bool,
}

/// A route's compiled policies, in THE LIST's order.
#[derive(Debug, Default)]
pub struct Chain {
    head: Box<[Compiled]>,
    /// Those of `head` that look at bodies.
    request_body: Box<[usize]>,
    /// Indices into `head`, in the order of the response pass.
    response: Box<[usize]>,
    /// Those of `response` that look at bodies.
    response_body: Box<[usize]>,
    /// Where in `head` the cache is.
    cache: Option<usize>,
    origins: Box<[Origin]>,
}

macro_rules! the_list {
    ($($(#[doc = $reason:literal])* $name:ident: $policy:ident $(, enforced $enforceable:ident)?;)*) => {
        /// A compiled policy. An enum and not a trait object: the set is closed, and the hot path
        /// is a jump, not a pointer.
        #[derive(Debug)]
        enum Compiled { $($policy($policy),)* }

        impl Compiled {
            fn on_request<'a>(&'a self, head: &'a RequestHeader, cx: &'a mut PolicyContext) -> Step<'a> {
                match self { $(Self::$policy(policy) => policy.on_request(head, cx),)* }
            }

            fn on_response(&self, request: &RequestHeader, answer: &mut ResponseHeader, cx: &mut PolicyContext) {
                match self { $(Self::$policy(policy) => policy.on_response(request, answer, cx),)* }
            }

            fn on_response_body(
                &self,
                body: &mut Option<Bytes>,
                end: bool,
                cx: &mut PolicyContext,
            ) -> Result<(), Box<Rejection>> {
                match self { $(Self::$policy(policy) => policy.on_response_body(body, end, cx),)* }
            }

            fn on_request_body(
                &self,
                head: &RequestHeader,
                body: &Bytes,
                cx: &mut PolicyContext,
            ) -> Result<(), Box<Rejection>> {
                match self { $(Self::$policy(policy) => policy.on_request_body(head, body, cx),)* }
            }

            const fn reads_requests(&self) -> bool {
                match self { $(Self::$policy(_) => $policy::READS_REQUESTS,)* }
            }

            fn on_response_trailers(&self, trailers: &HeaderMap, cx: &mut PolicyContext) {
                match self { $(Self::$policy(policy) => policy.on_response_trailers(trailers, cx),)* }
            }

            fn is_idle(&self) -> bool {
                match self { $(Self::$policy(policy) => policy.is_idle(),)* }
            }

            fn sees_answers(&self) -> bool {
                match self { $(Self::$policy(policy) => policy.sees_answers(),)* }
            }

            const fn limits(&self) -> bool {
                match self { $(Self::$policy(_) => $policy::LIMITS,)* }
            }

            fn give_back(&self, cx: &mut PolicyContext) {
                match self { $(Self::$policy(policy) => policy.give_back(cx),)* }
            }

            const fn reads_answers(&self) -> bool {
                match self { $(Self::$policy(_) => $policy::READS_ANSWERS,)* }
            }
        }

        /// The keys of all policies, in the order of the head pass.
        pub const NAMES: &[&str] = &[$($policy::NAME),*];

        fn compile_all(layers: &Layers<'_>, env: &CompileEnv<'_>, found: &mut Vec<Finding>) -> Vec<(Compiled, Origin)> {
            let mut chain = Vec::new();
            $(
                $(if let Some(config) = &layers.enforced.$enforceable {
                    let path = ConfigPath::root().key("policies").key("enforced").key($policy::NAME);
                    env.place.replace(path.clone());
                    add(&mut chain, found, $policy::compile(config, env).map(Compiled::$policy), $policy::NAME, (path, true));
                })?
                let given = layers.layers.iter().rev().find_map(|(path, layer)| layer.$name.as_ref().map(|setting| (path, setting)));
                if let Some((path, Setting::On(config))) = given {
                    let path = path.key($policy::NAME);
                    env.place.replace(path.clone());
                    add(&mut chain, found, $policy::compile(config, env).map(Compiled::$policy), $policy::NAME, (path, false));
                }
            )*
            chain
        }
    };
}

// THE LIST, head pass. The order is security: read the reasons before you move a line.
the_list! {
    /// First: the cheapest refusal, and whoever it refuses gets to touch nothing else.
    ip_access: IpAccess, enforced ip_access;
    /// Before all that costs anything, preflights and refusals as well: it knows the address and nothing else.
    flood: Flood, enforced flood;
    /// Before whatever asks who calls: a preflight carries no credentials (Fetch, section 4.8).
    cors: Cors;
    /// Before all that counts and asks: what is behind it takes the fault for the client's or the network's.
    fault: Fault;
    /// By what is known without a caller, before credentials cost anything: who guesses at them is limited
    /// as well. After preflights, which are the browser's and not the client's.
    rate_limit: ClientLimits, enforced rate_limit;
    /// Before anything reads a body. It only sets the bound; `proxy/phases/body.rs` holds it.
    body_limit: BodyLimit;
    /// After what needs no caller, and before all that does.
    authenticate: Authenticate, enforced authenticate;
    /// Right after who calls is known, before anything is done for the caller.
    authorize: Authorize, enforced authorize;
    /// By the caller, its plan or its claims: those that may do it, before it costs anything.
    rate_limit: CallerLimits, enforced rate_limit;
    /// After rates: whoever comes too fast uses nothing up.
    quota: Quotas, enforced quota;
    /// After all that may refuse it for what it is: whoever is refused is in flight nowhere.
    concurrency: Concurrency, enforced concurrency;
    /// Looks at the body after all policies have passed the head: who may not ask at all does not get
    /// to make us hold one.
    content_digest: ContentDigest;
    /// After all that may refuse the call; before `headers`, which have the last word on its fields.
    grpc_web: GrpcWeb;
    /// Whoever is refused costs no token; and it shows the upstream what `authenticate` keeps from it.
    upstream_auth: UpstreamAuth;
    /// Edits of the request, after all that may refuse it: a refused request is not worth them.
    headers: Headers, enforced headers;
    /// Everything before it saw the path that the client asked for.
    rewrite: Rewrite;
    /// Who may not ask gets nothing that is kept; and what policies set on the request is part of the key.
    cache: Cache;
    /// On answers alone.
    compress: Compress;
}

/// THE LIST, response pass: the order in which policies see an answer. `rate_limit` and `quota` read what the
/// upstream says of costs before `headers` takes it out. `headers` after `cors`, so
/// that an operator has the last word; an enforced one after the route's own. `compress` after both:
/// `headers` may forbid it by `no-transform`.
const RESPONSE: &[&str] = &[
    Authenticate::NAME,
    ClientLimits::NAME,
    Quotas::NAME,
    Cors::NAME,
    GrpcWeb::NAME,
    Headers::NAME,
    Compress::NAME,
];

fn add(
    chain: &mut Vec<(Compiled, Origin)>,
    found: &mut Vec<Finding>,
    compiled: Result<Compiled, Vec<Finding>>,
    name: &'static str,
    (path, enforced): (ConfigPath, bool),
) {
    match compiled {
        Ok(policy) if policy.is_idle() => {}
        Ok(policy) => chain.push((policy, Origin { name, path, enforced })),
        Err(findings) => found.extend(findings.into_iter().map(|finding| finding.under(&path))),
    }
}

impl Chain {
    /// Compiles the policies that are in force under these layers.
    ///
    /// # Errors
    /// What is wrong with any of them, with its path in the configuration.
    pub fn compile(layers: &Layers<'_>, env: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        let mut found = Vec::new();
        let compiled = compile_all(layers, env, &mut found);
        if !found.is_empty() {
            return Err(found);
        }
        let (mut head, origins): (Vec<_>, Vec<Origin>) = compiled.into_iter().unzip();
        let asks = head.iter().rev().find_map(|policy| match policy {
            Compiled::Authenticate(policy) => Some(policy.unknown()),
            _ => None,
        });
        for policy in &mut head {
            if let (Compiled::Authorize(policy), Some(unknown)) = (policy, &asks) {
                policy.refuse_unknown_with(unknown.clone());
            }
        }
        let place = |name: &str| RESPONSE.iter().position(|known| *known == name);
        // One that is not called is not looked at either: with many routes its memory is in no cache.
        let sees = |at: &usize| head[*at].sees_answers() && place(origins[*at].name).is_some();
        let mut response: Vec<usize> = (0..head.len()).filter(sees).collect();
        response.sort_by_key(|at| (place(origins[*at].name), origins[*at].enforced));
        let request_body = (0..head.len()).filter(|at| head[*at].reads_requests()).collect();
        let response_body = response.iter().copied().filter(|at| head[*at].reads_answers()).collect();
        let cache = head.iter().position(|policy| matches!(policy, Compiled::Cache(_)));
        let (head, response, origins): (Box<[_]>, _, _) = (head.into(), response.into(), origins.into());
        Ok(Self { head, cache, request_body, response, response_body, origins })
    }

    /// The head pass. The first policy that answers or refuses decides.
    pub async fn on_request(&self, head: &RequestHeader, cx: &mut PolicyContext) -> Verdict {
        for policy in &self.head {
            let verdict = match policy.on_request(head, cx) {
                Step::Continue => continue,
                Step::Answer(reply) => Verdict::Answer(reply),
                Step::Reject(rejection) => Verdict::Reject(rejection),
                Step::Wait(answer) => answer.await,
            };
            match verdict {
                Verdict::Continue => {}
                Verdict::Reject(rejection) if policy.limits() => {
                    self.give_back(cx);
                    return Verdict::Reject(rejection);
                }
                decided => return decided,
            }
        }
        Verdict::Continue
    }

    /// The request is refused for want of room: what limits took of what they count, they give back.
    pub fn give_back(&self, cx: &mut PolicyContext) {
        self.head.iter().for_each(|policy| policy.give_back(cx));
    }

    /// The body pass, after the head pass, for the policies that look at bodies.
    ///
    /// # Errors
    /// One of them refuses the request.
    pub fn on_request_body(
        &self,
        head: &RequestHeader,
        body: &Bytes,
        cx: &mut PolicyContext,
    ) -> Result<(), Box<Rejection>> {
        self.request_body.iter().try_for_each(|at| self.head[*at].on_request_body(head, body, cx))
    }

    /// The response pass, for every answer of a matched route, our own refusals included.
    pub fn on_response(&self, request: &RequestHeader, answer: &mut ResponseHeader, cx: &mut PolicyContext) {
        for at in &self.response {
            self.head[*at].on_response(request, answer, cx);
        }
    }

    /// A piece of an answer's body, for the policies that look at it.
    ///
    /// # Errors
    /// One of them cannot go on; the connection has to be cut.
    pub fn on_response_body(
        &self,
        body: &mut Option<Bytes>,
        end: bool,
        cx: &mut PolicyContext,
    ) -> Result<(), Box<Rejection>> {
        self.response_body.iter().try_for_each(|at| self.head[*at].on_response_body(body, end, cx))
    }

    /// The trailers of an answer, for the policies that look at bodies.
    pub fn on_response_trailers(&self, trailers: &HeaderMap, cx: &mut PolicyContext) {
        for at in &self.response_body {
            self.head[*at].on_response_trailers(trailers, cx);
        }
    }

    /// What asks who calls, in the order in which it asks.
    pub fn authentications(&self) -> impl Iterator<Item = &Authenticate> {
        self.head.iter().filter_map(|policy| match policy {
            Compiled::Authenticate(policy) => Some(policy),
            _ => None,
        })
    }

    /// Where those stand that want a client certificate of the connection.
    pub fn certificates_wanted(&self) -> impl Iterator<Item = &Origin> {
        let wants =
            |policy: &Compiled| matches!(policy, Compiled::Authenticate(one) if one.wants_certificates());
        self.origins.iter().zip(&self.head).filter(move |(_, policy)| wants(policy)).map(|(origin, _)| origin)
    }

    /// What is asked of callers, in the order in which it is asked, with where it comes from.
    pub fn authorizations(&self) -> impl Iterator<Item = (&Origin, &Authorize)> {
        self.origins.iter().zip(&self.head).filter_map(|(origin, policy)| match policy {
            Compiled::Authorize(policy) => Some((origin, policy)),
            _ => None,
        })
    }

    /// The rate limits, in the order in which they are asked, each with where its policy comes from.
    pub fn rate_limits(&self) -> impl Iterator<Item = (&Origin, &Limit)> {
        self.origins.iter().zip(&self.head).flat_map(|(origin, policy)| {
            let limits = match policy {
                Compiled::ClientLimits(policy) => policy.limits(),
                Compiled::CallerLimits(policy) => policy.limits(),
                _ => &[],
            };
            limits.iter().map(move |limit| (origin, limit))
        })
    }

    /// The quotas, in the order in which they are asked, each with where its policy comes from.
    pub fn quotas(&self) -> impl Iterator<Item = (&Origin, &Allowance)> {
        self.origins.iter().zip(&self.head).flat_map(|(origin, policy)| {
            let quotas = match policy {
                Compiled::Quotas(policy) => policy.all(),
                _ => &[],
            };
            quotas.iter().map(move |quota| (origin, quota))
        })
    }

    /// The bounds of requests in flight, each with where its policy comes from.
    pub fn bounds(&self) -> impl Iterator<Item = (&Origin, &Bound)> {
        self.origins.iter().zip(&self.head).flat_map(|(origin, policy)| {
            let bounds = match policy {
                Compiled::Concurrency(policy) => policy.bounds(),
                _ => &[],
            };
            bounds.iter().map(move |bound| (origin, bound))
        })
    }

    /// The bounds on clients that flood, each with where its policy comes from.
    pub fn floods(&self) -> impl Iterator<Item = (&Origin, &Flood)> {
        self.origins.iter().zip(&self.head).filter_map(|(origin, policy)| match policy {
            Compiled::Flood(policy) => Some((origin, policy)),
            _ => None,
        })
    }

    /// Where the caching of this chain comes from, if there is any.
    pub fn cache_origin(&self) -> Option<(&Origin, &Cache)> {
        Some((self.origins.get(self.cache?)?, self.cache()?))
    }

    /// What is kept of answers, if anything is.
    pub fn cache(&self) -> Option<&Cache> {
        match self.head.get(self.cache?)? {
            Compiled::Cache(cache) => Some(cache),
            _ => None,
        }
    }

    /// The policies in force, in the order of the head pass, with where each comes from.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }
}

//! The admin listener: health, metrics, what is in force, and the switches of an operator.
//!
//! It is served by the room `listen` like any other listener, so that it is bound, drained and
//! handed over like them. Whatever writes, and the configuration, asks for the token; without a
//! token in the configuration they are closed to everyone.

mod caches;
mod revocations;
mod views;

use crate::listen::ConnInfo;
use crate::policy::quota::Wanted;
use crate::runtime::{Current, Snapshot};
use crate::telemetry::error_log::ErrorLog;
use crate::telemetry::metrics::Metrics;
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{Method, Response, StatusCode};
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::protocols::http::ServerSession;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Reloads, and says what came of it.
pub type Reload = Box<dyn Fn() -> BoxFuture<'static, Option<Value>> + Send + Sync>;
/// What came of the last reload.
pub type LastReload = Box<dyn Fn() -> Option<Value> + Send + Sync>;

/// What quotas have used; `None` where there are none.
pub type Usage = Box<dyn Fn(&Wanted) -> Option<Value> + Send + Sync>;

/// Whether the gateway takes requests.
#[derive(Debug, Default)]
pub struct Readiness(AtomicBool);

impl Readiness {
    /// True once every listener accepts, until a shutdown begins.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Sets it.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }
}

/// What the admin listener shows and moves.
pub struct Admin {
    /// The configuration in force.
    pub current: Arc<Current>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether the gateway takes requests.
    pub readiness: Arc<Readiness>,
    /// The log whose level can be changed.
    pub error_log: Option<ErrorLog>,
    /// Reads the configuration again.
    pub reload: Reload,
    /// What came of it last time.
    pub last_reload: LastReload,
    /// What quotas have used.
    pub quotas: Usage,
}

type Answer = Response<Vec<u8>>;

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Answer {
        if let Some(conn) = session.digest().and_then(ConnInfo::of) {
            conn.header_complete();
        }
        let head = session.req_header();
        let method = head.method.clone();
        let (path, query) = (head.uri.path().to_owned(), head.uri.query().map(str::to_owned));
        let token = head.headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        let snapshot = self.current.load();
        let allowed = token.is_some_and(|token| may(&snapshot, token));
        let mut answer = match path.strip_prefix("/revocations") {
            Some(rest) if allowed && (rest.is_empty() || rest.starts_with('/')) => {
                revoked(session, &method, (rest, query.as_deref()), &snapshot).await
            }
            _ if allowed && path == "/caches/purge" && method == Method::POST => match body(session).await {
                Some(body) => caches::purge(&snapshot, &body).await,
                None => problem(StatusCode::PAYLOAD_TOO_LARGE, "a purge has at most 16KiB"),
            },
            _ if allowed && path == "/quotas" && method == Method::GET => {
                self.usage(query.as_deref().unwrap_or_default())
            }
            _ => self.answer(&method, &path, allowed, &snapshot).await,
        };
        if method == Method::HEAD {
            answer.body_mut().clear();
        }
        answer
    }
}

/// The largest body, in bytes.
const LARGEST_BODY: usize = 16 << 10;

/// How much of a larger one is read away, in bytes.
const MOST_READ: usize = 1 << 20;

/// What concerns revocations, of somebody who may.
async fn revoked(
    session: &mut ServerSession,
    method: &Method,
    (rest, query): (&str, Option<&str>),
    snapshot: &Snapshot,
) -> Answer {
    match (method, rest) {
        (&Method::GET | &Method::HEAD, "") => revocations::list(snapshot, query),
        (&Method::POST, "") => match body(session).await {
            Some(body) => revocations::revoke(snapshot, &body).await,
            None => problem(StatusCode::PAYLOAD_TOO_LARGE, "a revocation has at most 16KiB"),
        },
        (&Method::DELETE, id) if !id.is_empty() => {
            revocations::withdraw(snapshot, id.trim_start_matches('/')).await
        }
        _ => problem(StatusCode::NOT_FOUND, "there is nothing here; see /"),
    }
}

/// The body of a request, whole; `None` if it is too large or breaks off.
async fn body(session: &mut ServerSession) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    let mut length = 0;
    while let Some(part) = session.read_request_body().await.ok()? {
        length += part.len();
        if length > MOST_READ {
            return None;
        }
        // Read on, so that the answer is not lost with what was not read.
        if length <= LARGEST_BODY {
            body.extend_from_slice(&part);
        }
    }
    (length <= LARGEST_BODY).then_some(body)
}

/// The token of a bearer; the scheme's case does not count (RFC 9110 section 11.1).
fn bearer(credentials: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = credentials.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

fn may(snapshot: &Snapshot, token: &[u8]) -> bool {
    snapshot.config.admin.as_ref().is_some_and(|admin| admin.token.matches(token))
}

impl Admin {
    async fn answer(&self, method: &Method, path: &str, allowed: bool, snapshot: &Snapshot) -> Answer {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let reads = method == Method::GET || method == Method::HEAD;
        match (reads, parts.as_slice()) {
            (true, [""]) => text(StatusCode::OK, "text/plain; charset=utf-8", INDEX.into()),
            (true, ["healthz"]) => text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n".into()),
            (true, ["readyz"]) if self.readiness.is_ready() => {
                text(StatusCode::OK, "text/plain; charset=utf-8", "ready\n".into())
            }
            (true, ["readyz"]) => {
                text(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", "not ready\n".into())
            }
            (true, ["metrics"]) => {
                text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics.scrape())
            }
            (true, ["routes"]) => as_json(StatusCode::OK, &views::routes(snapshot)),
            (true, ["upstreams"]) => as_json(StatusCode::OK, &views::upstreams(snapshot)),
            (true, ["reload"]) => as_json(StatusCode::OK, &(self.last_reload)().unwrap_or(Value::Null)),
            (true, ["config"]) if allowed => text(StatusCode::OK, "application/yaml", snapshot.config.view()),
            (true, ["config"]) => unauthorized(snapshot),
            (_, ["revocations", ..] | ["quotas"] | ["caches", "purge"]) => unauthorized(snapshot),
            _ if method != Method::POST => problem(StatusCode::NOT_FOUND, "there is nothing here; see /"),
            _ if !allowed => unauthorized(snapshot),
            (_, ["reload"]) => self.reload().await,
            (_, ["log", level]) => self.log_level(level),
            (_, ["routes", name, state @ ("on" | "off")]) => {
                views::switch_route(snapshot, name, *state == "off")
            }
            // The path of a Unix socket has slashes of its own.
            (_, ["upstreams", name, endpoint @ .., state @ ("drain" | "resume")]) => {
                views::drain(snapshot, name, &endpoint.join("/"), *state == "drain")
            }
            _ => problem(StatusCode::NOT_FOUND, "there is nothing here to change; see /"),
        }
    }

    /// Who has used how much; `query` may say `for=NAME` and `after=ID`.
    fn usage(&self, query: &str) -> Answer {
        let mut wanted = Wanted::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "for" => wanted.of = Some(value.into_owned()),
                "after" => wanted.after = Some(value.into_owned()),
                _ => return problem(StatusCode::BAD_REQUEST, "`for` names a key, `after` the id of one"),
            }
        }
        let none = || json!({ "quotas": [], "next": null });
        as_json(StatusCode::OK, &(self.quotas)(&wanted).unwrap_or_else(none))
    }

    async fn reload(&self) -> Answer {
        match (self.reload)().await {
            Some(event) if event["outcome"] == "rejected" => {
                as_json(StatusCode::UNPROCESSABLE_ENTITY, &event)
            }
            Some(event) => as_json(StatusCode::OK, &event),
            None => problem(StatusCode::SERVICE_UNAVAILABLE, "the gateway is shutting down"),
        }
    }

    fn log_level(&self, level: &str) -> Answer {
        match (&self.error_log, level.parse()) {
            (Some(log), Ok(level)) => {
                log.set_level(level);
                as_json(StatusCode::OK, &json!({ "level": level.as_str().to_ascii_lowercase() }))
            }
            (None, Ok(_)) => problem(StatusCode::CONFLICT, "the error log is not this gateway's own"),
            (_, Err(_)) => problem(StatusCode::BAD_REQUEST, "a level is error, warn, info, debug or trace"),
        }
    }
}

const INDEX: &str = "\
Tollgate's admin listener

GET  /healthz                                the process lives
GET  /readyz                                 it takes requests
GET  /metrics                                for Prometheus
GET  /routes                                 routes in force
GET  /upstreams                              upstreams and their endpoints
GET  /reload                                 what came of the last reload
GET  /config                                 the configuration in force (token)
GET  /revocations, /revocations?after=ID     what is revoked, by pages (token)
POST /revocations                            revoke a key, a token or a subject (token)
DELETE /revocations/ID                       take a revocation back (token)
GET  /quotas, /quotas?for=NAME&after=ID      what quotas have used, by pages (token)
POST /caches/purge                           make kept answers invalid (token)
POST /reload                                 read the configuration again (token)
POST /routes/NAME/off, /on                   switch a route (token)
POST /upstreams/NAME/ADDRESS/drain, /resume  take an endpoint out, put it back (token)
POST /log/LEVEL                              how much the error log says (token)
";

fn text(status: StatusCode, content_type: &str, body: String) -> Answer {
    let mut answer = Response::new(body.into_bytes());
    *answer.status_mut() = status;
    let length = answer.body().len();
    let headers = answer.headers_mut();
    if let Ok(content_type) = content_type.parse() {
        headers.insert(CONTENT_TYPE, content_type);
    }
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    answer
}

fn as_json(status: StatusCode, value: &Value) -> Answer {
    text(status, "application/json", format!("{value:#}\n"))
}

fn problem(status: StatusCode, title: &str) -> Answer {
    text(
        status,
        "application/problem+json",
        format!("{}\n", json!({ "title": title, "status": status.as_u16() })),
    )
}

fn unauthorized(snapshot: &Snapshot) -> Answer {
    let open = snapshot.config.admin.as_ref().is_some_and(|admin| !admin.token.is_empty());
    if !open {
        return problem(StatusCode::FORBIDDEN, "closed, since the configuration has no admin.token");
    }
    let mut answer = problem(StatusCode::UNAUTHORIZED, "this asks for the admin token");
    answer
        .headers_mut()
        .insert(WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer realm=\"tollgate-admin\""));
    answer
}

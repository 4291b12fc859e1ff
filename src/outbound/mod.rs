//! Calls that the gateway makes for itself: for keys, tokens and answers about callers, by one HTTP
//! client, bounded in time and size; it follows no redirect and asks no proxy, so a call goes where
//! the configuration says and nowhere else. And to what gateways share ([`redis`]).

mod config;
pub mod redis;
#[cfg(test)]
mod tests;

pub use config::CallConfig;

use crate::values::{Problem, ServiceUrl};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Idle connections that are kept to one service.
const IDLE: usize = 32;
/// How long an idle connection is kept.
const IDLE_FOR: Duration = Duration::from_secs(60);
/// The most header fields of an answer.
const FIELDS: usize = 100;
/// The largest header of an HTTP/2 answer, in bytes.
const HEADER: u32 = 64 << 10;
/// The largest file of authorities.
const LARGEST_CA: u64 = 4 << 20;

/// The clients of a process, one for each set of authorities, and its connections to stores, so that
/// a reload keeps what is connected.
#[derive(Default)]
pub struct Outbound {
    /// Connections to stores.
    links: Mutex<Vec<redis::Known>>,
    /// By the authorities' PEM text; none for the system's.
    clients: Mutex<HashMap<Option<Vec<u8>>, Weak<reqwest::Client>>>,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").finish_non_exhaustive()
    }
}

/// Calls services within a configuration's bounds. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<reqwest::Client>,
    timeout: Duration,
    max_answer: usize,
}

/// A call, to be made.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    url: ServiceUrl,
    headers: HeaderMap,
    body: Bytes,
}

/// What a service answered, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
}

/// Why there is no answer. For the log: it may tell of the inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The time was over.
    Timeout(Duration),
    /// There was no connection, for this reason.
    Connect(String),
    /// The answer was larger than this many bytes.
    TooLarge(usize),
    /// The connection broke, or what came was not HTTP.
    Broken(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(time) => write!(f, "no answer within {}ms", time.as_millis()),
            Self::Connect(why) => write!(f, "no connection: {why}"),
            Self::TooLarge(most) => write!(f, "the answer is larger than {most} bytes"),
            Self::Broken(why) => write!(f, "no whole answer: {why}"),
        }
    }
}

impl Outbound {
    /// A client for these bounds and authorities.
    ///
    /// # Errors
    /// What is wrong with the file of authorities.
    pub fn client(&self, config: &CallConfig) -> Result<Client, Problem> {
        let authorities = config.ca.as_deref().map(read).transpose()?;
        let mut clients = self.clients.lock();
        clients.retain(|_, client| client.strong_count() > 0);
        let known = clients.get(&authorities).and_then(Weak::upgrade);
        let inner = match known {
            Some(client) => client,
            None => {
                let fresh = Arc::new(build(authorities.as_deref(), config.ca.as_deref())?);
                clients.insert(authorities, Arc::downgrade(&fresh));
                fresh
            }
        };
        Ok(Client { inner, timeout: config.timeout.get(), max_answer: config.max_answer.len() })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let unreadable = |error| {
        Problem::new(format!("file `{}` cannot be read: {error}", path.display()))
            .remedy("name a PEM file of authorities")
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(LARGEST_CA).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

fn build(authorities: Option<&[u8]>, path: Option<&Path>) -> Result<reqwest::Client, Problem> {
    // The process's provider, whoever comes first: `server::build` installs the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let builder = || {
        reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .pool_max_idle_per_host(IDLE)
            .pool_idle_timeout(IDLE_FOR)
            .http1_max_headers(FIELDS)
            .http2_max_header_list_size(HEADER)
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
    };
    let shown = path.unwrap_or(Path::new("")).display();
    let Some(pem) = authorities else {
        // A machine without authorities can still call loopback; `https` fails there, and says so.
        return builder().build().or_else(|error| {
            log::warn!("the system's certificate authorities cannot be used: {}", chain(&error));
            builder().tls_certs_only([]).build().map_err(|error| Problem::new(chain(&error)))
        });
    };
    let certificates = reqwest::Certificate::from_pem_bundle(pem).unwrap_or_default();
    if certificates.is_empty() {
        return Err(Problem::new(format!("file `{shown}` has no certificate in it"))
            .remedy("name a PEM file of the authorities that are trusted"));
    }
    builder().tls_certs_only(certificates).build().map_err(|error| {
        Problem::new(format!("the authorities in `{shown}` cannot be used: {}", chain(&error)))
            .remedy("name a PEM file of the authorities that are trusted")
    })
}

/// An error with its causes, without the address that was called: addresses may hold secrets.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl Call {
    /// A GET.
    pub fn get(url: ServiceUrl) -> Self {
        Self::new(Method::GET, url)
    }

    /// Any method.
    pub fn new(method: Method, url: ServiceUrl) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A POST of a form (`application/x-www-form-urlencoded`).
    pub fn form(url: ServiceUrl, fields: &[(&str, &str)]) -> Self {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        Self::new(Method::POST, url)
            .header(http::header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
            .body(body)
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

impl Client {
    /// Calls, and reads the whole answer.
    ///
    /// # Errors
    /// What went wrong. An answer of any status is an answer; a redirect is one too.
    pub async fn call(&self, call: Call) -> Result<Answer, Failure> {
        let answered = tokio::time::timeout(self.timeout, self.exchange(call)).await;
        answered.unwrap_or(Err(Failure::Timeout(self.timeout)))
    }

    async fn exchange(&self, call: Call) -> Result<Answer, Failure> {
        let Call { method, url, headers, body } = call;
        let request = self.inner.request(method, url.get().clone()).headers(headers);
        let request = if body.is_empty() { request } else { request.body(body) };
        let mut response = request.send().await.map_err(failure)?;
        let too_large = Failure::TooLarge(self.max_answer);
        let announced = response.content_length().unwrap_or(0);
        if announced > self.max_answer as u64 {
            return Err(too_large);
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failure)? {
            if body.len() + chunk.len() > self.max_answer {
                return Err(too_large);
            }
            body.extend_from_slice(&chunk);
        }
        let status = response.status();
        Ok(Answer { status, headers: std::mem::take(response.headers_mut()), body: body.freeze() })
    }
}

fn failure(error: reqwest::Error) -> Failure {
    let connect = error.is_connect();
    let why = chain(&error.without_url());
    if connect { Failure::Connect(why) } else { Failure::Broken(why) }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Answer {
    /// For how many seconds the answer may be reused, as its `Cache-Control` says (RFC 9111,
    /// section 5.2.2): 0 for `no-store` and `no-cache`; nothing if it does not say.
    pub fn max_age(&self) -> Option<u64> {
        let mut age = None;
        let values = self.headers.get_all(http::header::CACHE_CONTROL).iter();
        let directives = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        for directive in directives.map(str::trim) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
                return Some(0);
            }
            if name.eq_ignore_ascii_case("max-age") {
                // Nonsense counts as stale (RFC 9111, section 4.2.1).
                let seconds = value.trim_matches('"').parse().unwrap_or(0);
                age = Some(age.map_or(seconds, |known: u64| known.min(seconds)));
            }
        }
        age
    }
}

//! Cross-origin requests from browsers (the Fetch standard's CORS protocol).

use super::context::PolicyContext;
use super::{CompileEnv, Policy, Reply, Step, at};
use crate::values::{ConfigPath, Duration, Finding, Problem};
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use pingora_http::{RequestHeader, ResponseHeader};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Cross-origin requests from browsers. A preflight is answered here and never goes upstream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorsConfig {
    /// Origins that may read answers: `https://app.example.com`, `https://*.example.com` (one
    /// label), or `*` for any.
    #[schemars(length(min = 1))]
    pub origins: Vec<String>,
    /// Methods that may be used. Default: GET, HEAD, POST.
    #[serde(default = "simple_methods")]
    pub methods: Vec<String>,
    /// Request header fields that may be sent, or `*`. Default: none beyond the simple ones.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Response header fields that a page may read. Default: none beyond the simple ones.
    #[serde(default)]
    pub expose: Vec<String>,
    /// Whether cookies and credentials may go along; not with the origin `*`. Default false.
    #[serde(default)]
    pub credentials: bool,
    /// How long a browser may remember a preflight's answer. Default 10m.
    #[serde(default = "ten_minutes")]
    pub max_age: Duration,
}

fn simple_methods() -> Vec<String> {
    ["GET", "HEAD", "POST"].map(String::from).to_vec()
}

fn ten_minutes() -> Duration {
    Duration::from_secs(600)
}

/// [`CorsConfig`], compiled.
#[derive(Debug)]
pub struct Cors {
    origins: Origins,
    methods: Vec<Method>,
    methods_value: HeaderValue,
    headers: RequestHeaders,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age: HeaderValue,
}

#[derive(Debug)]
enum Origins {
    Any,
    Listed(Vec<Origin>),
}

#[derive(Debug)]
enum Origin {
    Exact(String),
    /// `https://*.example.com` as its two halves, `https://` and `.example.com`.
    Wildcard(String, String),
}

#[derive(Debug)]
enum RequestHeaders {
    Any,
    Listed(HeaderValue),
}

/// Fields of the protocol that an upstream may have set by itself; here the gateway decides.
const OURS: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// True for a CORS preflight: OPTIONS with an origin and the method that it asks about.
pub fn is_preflight(head: &RequestHeader) -> bool {
    head.method == Method::OPTIONS
        && head.headers.contains_key(ORIGIN)
        && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

impl Policy for Cors {
    const NAME: &'static str = "cors";
    type Config = CorsConfig;

    fn compile(config: &CorsConfig, _: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        let mut found = Vec::new();
        let origins = compile_origins(config, &mut found);
        let mut methods = Vec::new();
        for (index, text) in config.methods.iter().enumerate() {
            match text.parse() {
                Ok(method) => methods.push(method),
                Err(_) => {
                    found.push(at_index("methods", index, Problem::new(format!("`{text}` is not a method"))));
                }
            }
        }
        let any_header = config.headers.iter().any(|name| name == "*");
        let names = [("headers", &config.headers), ("expose", &config.expose)];
        for (key, index, name) in
            names.iter().flat_map(|(key, list)| list.iter().enumerate().map(move |(i, n)| (key, i, n)))
        {
            if name != "*" && name.parse::<HeaderName>().is_err() {
                found.push(at_index(
                    key,
                    index,
                    Problem::new(format!("`{name}` is not a header field's name")),
                ));
            }
        }
        if !found.is_empty() {
            return Err(found);
        }
        let list = |items: &[String]| HeaderValue::from_str(&items.join(", ")).map_err(|_| Vec::new());
        Ok(Self {
            origins,
            methods_value: list(&config.methods)?,
            methods,
            headers: if any_header {
                RequestHeaders::Any
            } else {
                RequestHeaders::Listed(list(&config.headers)?)
            },
            expose: if config.expose.is_empty() { None } else { Some(list(&config.expose)?) },
            credentials: config.credentials,
            max_age: HeaderValue::from(config.max_age.get().as_secs()),
        })
    }

    fn on_request<'a>(&'a self, head: &'a RequestHeader, _: &'a mut PolicyContext) -> Step<'a> {
        if !is_preflight(head) {
            return Step::Continue;
        }
        // An origin or a method that is not allowed gets an answer without permission, which is
        // how a browser is told no (Fetch, section 4.8).
        match self.preflight(head) {
            Ok(answer) => Step::Answer(Box::new(Reply { head: answer, body: Bytes::new() })),
            Err(_) => Step::Continue,
        }
    }

    fn on_response(&self, request: &RequestHeader, answer: &mut ResponseHeader, _: &mut PolicyContext) {
        let preflight = is_preflight(request);
        for name in OURS.iter().take(if preflight { 3 } else { OURS.len() }) {
            answer.remove_header(name);
        }
        // Names and values were checked when they were compiled; an insert that failed all the
        // same would leave a permission out, which is the safe side.
        let _ = self.permit(request, answer, preflight);
    }
}

impl Cors {
    fn preflight(&self, head: &RequestHeader) -> pingora_error::Result<ResponseHeader> {
        let mut answer = ResponseHeader::build(StatusCode::NO_CONTENT, Some(8))?;
        answer
            .append_header(VARY, "origin, access-control-request-method, access-control-request-headers")?;
        let asked = head.headers.get(ACCESS_CONTROL_REQUEST_METHOD).map(HeaderValue::as_bytes);
        let simple = [Method::GET, Method::HEAD, Method::POST];
        let method_fits = self.methods.iter().chain(&simple).any(|m| Some(m.as_str().as_bytes()) == asked);
        if !method_fits || !self.allows(head) {
            return Ok(answer);
        }
        answer.insert_header(ACCESS_CONTROL_ALLOW_METHODS, self.methods_value.clone())?;
        answer.insert_header(ACCESS_CONTROL_MAX_AGE, self.max_age.clone())?;
        match (&self.headers, head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS)) {
            (RequestHeaders::Any, Some(asked)) => {
                answer.insert_header(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone())?;
            }
            (RequestHeaders::Listed(list), _) if !list.is_empty() => {
                answer.insert_header(ACCESS_CONTROL_ALLOW_HEADERS, list.clone())?;
            }
            _ => {}
        }
        Ok(answer)
    }

    fn permit(
        &self,
        request: &RequestHeader,
        answer: &mut ResponseHeader,
        preflight: bool,
    ) -> pingora_error::Result<()> {
        let same_for_all = matches!(self.origins, Origins::Any) && !self.credentials;
        if !same_for_all && !preflight {
            answer.append_header(VARY, "origin")?;
        }
        let Some(origin) = request.headers.get(ORIGIN).filter(|_| self.allows(request)) else {
            return Ok(());
        };
        if same_for_all {
            answer.insert_header(ACCESS_CONTROL_ALLOW_ORIGIN, "*")?;
        } else {
            answer.insert_header(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone())?;
        }
        if self.credentials {
            answer.insert_header(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true")?;
        }
        if let Some(expose) = self.expose.as_ref().filter(|_| !preflight) {
            answer.insert_header(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone())?;
        }
        Ok(())
    }

    fn allows(&self, head: &RequestHeader) -> bool {
        let Some(origin) = head.headers.get(ORIGIN).and_then(|value| value.to_str().ok()) else {
            return false;
        };
        match &self.origins {
            Origins::Any => true,
            Origins::Listed(list) => list.iter().any(|known| known.matches(origin)),
        }
    }
}

impl Origin {
    fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Exact(known) => known == origin,
            Self::Wildcard(scheme, domain) => origin
                .strip_prefix(scheme.as_str())
                .and_then(|rest| rest.strip_suffix(domain.as_str()))
                .is_some_and(|label| {
                    !label.is_empty() && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
                }),
        }
    }
}

fn compile_origins(config: &CorsConfig, found: &mut Vec<Finding>) -> Origins {
    if config.origins.is_empty() {
        found.push(at("origins", Problem::new("no origin is listed").remedy("list one, or `*` for any")));
    }
    if config.origins.iter().any(|origin| origin == "*") {
        if config.credentials {
            found.push(at(
                "credentials",
                Problem::new(
                    "credentials for any origin would let every page read answers in the user's name",
                )
                .remedy("list the origins"),
            ));
        }
        return Origins::Any;
    }
    let mut list = Vec::new();
    for (index, text) in config.origins.iter().enumerate() {
        match origin(text) {
            Some(origin) => list.push(origin),
            None => found.push(at_index(
                "origins",
                index,
                Problem::new(format!("`{text}` is not an origin"))
                    .remedy("write it as `https://app.example.com`, with a port if it is not the usual one, without a path"),
            )),
        }
    }
    Origins::Listed(list)
}

fn origin(text: &str) -> Option<Origin> {
    if text == "null" {
        return Some(Origin::Exact(text.into()));
    }
    let (scheme, authority) = text.split_once("://")?;
    let plain = authority.replacen("*.", "", 1);
    let fits = !scheme.is_empty()
        && scheme.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"+-.".contains(&c))
        && crate::message::authority::is_valid(&plain)
        && !plain.contains('*')
        && !plain.bytes().any(|c| c.is_ascii_uppercase());
    if !fits {
        return None;
    }
    match authority.strip_prefix('*') {
        Some(domain) => Some(Origin::Wildcard(format!("{scheme}://"), domain.into())),
        None if plain == authority => Some(Origin::Exact(text.into())),
        None => None,
    }
}

fn at_index(key: &str, index: usize, problem: Problem) -> Finding {
    Finding::error(ConfigPath::root().key(key).index(index), problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(yaml: &str) -> Result<Cors, Vec<Finding>> {
        let config: CorsConfig = serde_saphyr::from_str(yaml).unwrap();
        Cors::compile(&config, &CompileEnv::default())
    }

    fn head(method: &str, fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build(method, b"/", None).unwrap();
        for (name, value) in fields {
            head.insert_header(*name, *value).unwrap();
        }
        head
    }

    /// The answer to an actual request: allow-origin, credentials, vary.
    fn answer(yaml: &str, origin: Option<&str>) -> (Option<String>, bool, bool) {
        let fields: Vec<_> = origin.map(|origin| ("origin", origin)).into_iter().collect();
        let mut answer = ResponseHeader::build(200, None).unwrap();
        answer.insert_header("access-control-allow-origin", "https://upstream.example").unwrap();
        policy(yaml).unwrap().on_response(&head("GET", &fields), &mut answer, &mut PolicyContext::new());
        let allow = answer.headers.get("access-control-allow-origin").map(|v| v.to_str().unwrap().to_owned());
        (
            allow,
            answer.headers.contains_key("access-control-allow-credentials"),
            answer.headers.contains_key("vary"),
        )
    }

    #[test]
    fn origins_that_may_read() {
        let listed = "origins: [https://a.example, 'https://*.b.example']";
        for (origin, allowed) in [
            ("https://a.example", true),
            ("https://a.example.evil", false),
            ("http://a.example", false),
            ("https://x.b.example", true),
            ("https://x.y.b.example", false),
            ("https://b.example", false),
            ("https://evil.example/.b.example", false),
            ("null", false),
        ] {
            let expected = allowed.then(|| origin.to_owned());
            assert_eq!(answer(listed, Some(origin)), (expected, false, true), "{origin}");
        }
        assert_eq!(answer(listed, None), (None, false, true), "an upstream's own permission is taken away");
        assert_eq!(answer("origins: ['*']", Some("https://x")), (Some("*".into()), false, false));
        let with = "{ origins: [https://a.example], credentials: true }";
        assert_eq!(answer(with, Some("https://a.example")), (Some("https://a.example".into()), true, true));
    }

    #[test]
    fn a_preflight_is_answered_here() {
        let policy = policy("{ origins: [https://a.example], methods: [PUT], headers: [x-a] }").unwrap();
        for (origin, method, allowed) in [
            ("https://a.example", "PUT", true),
            ("https://a.example", "GET", true),
            ("https://a.example", "DELETE", false),
            ("https://b.example", "PUT", false),
        ] {
            let head = head("OPTIONS", &[("origin", origin), ("access-control-request-method", method)]);
            let mut cx = PolicyContext::new();
            let Step::Answer(reply) = policy.on_request(&head, &mut cx) else { panic!("not answered") };
            assert_eq!(reply.head.status, 204);
            assert_eq!(
                reply.head.headers.contains_key("access-control-allow-methods"),
                allowed,
                "{origin} {method}"
            );
        }
        let plain = head("OPTIONS", &[("origin", "https://a.example")]);
        assert!(matches!(policy.on_request(&plain, &mut PolicyContext::new()), Step::Continue));
    }

    #[test]
    fn mistakes_have_their_places() {
        for (yaml, path) in [
            ("origins: []", "origins"),
            ("{ origins: ['*'], credentials: true }", "credentials"),
            ("origins: [a.example]", "origins[0]"),
            ("origins: ['https://a.example/']", "origins[0]"),
            ("origins: ['https://*.*.example']", "origins[0]"),
            ("{ origins: ['*'], methods: ['A B'] }", "methods[0]"),
            ("{ origins: ['*'], headers: ['a b'] }", "headers[0]"),
        ] {
            assert_eq!(policy(yaml).unwrap_err()[0].path.to_string(), path, "{yaml}");
        }
    }
}

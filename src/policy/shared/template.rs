//! Text with `{…}` variables, compiled once.

use super::caller::Caller;
use crate::message::authority;
use crate::policy::context::PolicyContext;
use crate::values::{Problem, nearest};
use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use pingora_http::RequestHeader;
use std::cell::Cell;

/// What a template may refer to where it stands.
#[derive(Debug, Default)]
pub struct Scope<'a> {
    /// The parameters that the route binds, by slot.
    pub params: &'a [String],
    /// The route's name; none for what stands in no route.
    pub route: Option<&'a str>,
    /// Set when a template refers to what only this route has, so that its policies cannot be
    /// shared with other routes.
    pub of_this_route: Cell<bool>,
}

/// Text with variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Box<[Part]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Var(Var),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Var {
    Param(usize),
    ClientIp,
    RequestId,
    Host,
    Path,
    Query,
    Method,
    Scheme,
    Header(HeaderName),
    QueryParam(Box<str>),
    Cookie(Box<str>),
    Caller(Caller),
}

const PLAIN: [(&str, Var); 13] = [
    ("client.ip", Var::ClientIp),
    ("request.id", Var::RequestId),
    ("request.host", Var::Host),
    ("request.path", Var::Path),
    ("request.query", Var::Query),
    ("request.method", Var::Method),
    ("request.scheme", Var::Scheme),
    ("consumer.name", Var::Caller(Caller::Consumer)),
    ("consumer.plan", Var::Caller(Caller::Plan)),
    ("consumer.tenant", Var::Caller(Caller::Tenant)),
    ("consumer.groups", Var::Caller(Caller::Groups)),
    ("principal.subject", Var::Caller(Caller::Subject)),
    ("principal.method", Var::Caller(Caller::Method)),
];

const CLAIMS: &str = "claims.";

/// What must be escaped where a value that is no path becomes part of one (RFC 3986 section 3.3).
const PATH_ESCAPES: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'^')
    .add(b'|')
    .add(b'[')
    .add(b']');

impl Template {
    /// Reads text with `{…}` variables; `{{` and `}}` stand for the braces themselves.
    ///
    /// # Errors
    /// An unknown variable, a brace without its other half.
    pub fn compile(text: &str, scope: &Scope<'_>) -> Result<Self, Problem> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..];
            if brace.starts_with("{{") || brace.starts_with("}}") {
                plain.push_str(&brace[..1]);
                rest = &brace[2..];
                continue;
            }
            let Some(end) = brace.find('}').filter(|_| brace.starts_with('{')) else {
                return Err(Problem::new("a brace without its other half")
                    .remedy("write `{{` and `}}` for the braces themselves"));
            };
            match variable(&brace[1..end], scope)? {
                Part::Text(name) => plain.push_str(&name),
                var @ Part::Var(_) => {
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain).into()));
                    }
                    parts.push(var);
                }
            }
            rest = &brace[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Ok(Self(parts.into()))
    }

    /// The whole text, if it holds no variable.
    pub fn constant(&self) -> Option<&str> {
        match &*self.0 {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text for one request.
    pub fn render(&self, head: &RequestHeader, cx: &PolicyContext) -> String {
        self.render_with(head, cx, String::push_str)
    }

    /// The text for one request, whose values are written by `write`.
    pub fn render_with(
        &self,
        head: &RequestHeader,
        cx: &PolicyContext,
        write: impl Fn(&mut String, &str),
    ) -> String {
        let mut out = String::with_capacity(64);
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Var(var) => write(&mut out, &var.value(head, cx)),
            }
        }
        out
    }

    /// A path for one request. Parameters are parts of a path already; anything else is escaped.
    /// The slash before an empty parameter is dropped, so that `/v2/{rest}` with nothing left is `/v2`.
    pub fn render_path(&self, head: &RequestHeader, cx: &PolicyContext) -> String {
        let mut out = String::with_capacity(64);
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Var(var @ (Var::Param(_) | Var::Path)) => {
                    let value = var.value(head, cx);
                    if value.is_empty() && out.len() > 1 && out.ends_with('/') {
                        out.pop();
                    }
                    out.push_str(value.strip_prefix('/').filter(|_| out.ends_with('/')).unwrap_or(&value));
                }
                Part::Var(var) => out.extend(utf8_percent_encode(&var.value(head, cx), PATH_ESCAPES)),
            }
        }
        out
    }

    /// A header value for one request; none if the text cannot stand in a header, or if it says who
    /// calls and that is not known.
    pub fn header_value(&self, head: &RequestHeader, cx: &PolicyContext) -> Option<HeaderValue> {
        let unknown =
            |part: &Part| matches!(part, Part::Var(var @ Var::Caller(_)) if var.value(head, cx).is_empty());
        if self.0.iter().any(unknown) {
            return None;
        }
        HeaderValue::from_maybe_shared(bytes::Bytes::from(self.render(head, cx))).ok()
    }

    /// True if it says who calls, so that nobody else may say it in its place.
    pub fn tells_caller(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Var(Var::Caller(_))))
    }
}

fn variable(name: &str, scope: &Scope<'_>) -> Result<Part, Problem> {
    if let Some((_, var)) = PLAIN.iter().find(|(known, _)| *known == name) {
        return Ok(Part::Var(var.clone()));
    }
    if let Some(slot) = scope.params.iter().position(|param| param == name) {
        scope.of_this_route.set(true);
        return Ok(Part::Var(Var::Param(slot)));
    }
    if name == "route.name" {
        scope.of_this_route.set(true);
        if let Some(route) = scope.route {
            return Ok(Part::Text(route.into()));
        }
    }
    match name.split_once('.') {
        Some(("header", field)) => field
            .parse()
            .map(|field| Part::Var(Var::Header(field)))
            .map_err(|_| Problem::new(format!("`{field}` is not a header field's name"))),
        Some(("query", field)) if !field.is_empty() => Ok(Part::Var(Var::QueryParam(field.into()))),
        Some(("cookie", field)) if !field.is_empty() => Ok(Part::Var(Var::Cookie(field.into()))),
        Some(("principal", claim)) if claim.len() > CLAIMS.len() && claim.starts_with(CLAIMS) => {
            Ok(Part::Var(Var::Caller(Caller::Claim(claim[CLAIMS.len()..].into()))))
        }
        _ => Err(unknown(name, scope)),
    }
}

fn unknown(name: &str, scope: &Scope<'_>) -> Problem {
    let known = PLAIN
        .iter()
        .map(|(known, _)| *known)
        .chain(scope.params.iter().map(String::as_str))
        .chain(["route.name"]);
    let problem = Problem::new(format!("unknown variable `{{{name}}}`"));
    if let Some(near) = nearest(name, known) {
        return problem.remedy(format!("did you mean `{{{near}}}`?"));
    }
    problem.remedy(
        "a variable is a parameter that every alternative of `match` binds, or one of client.ip, \
         request.id, request.host, request.path, request.query, request.method, request.scheme, \
         route.name, header.NAME, query.NAME, cookie.NAME, consumer.name, consumer.plan, \
         consumer.tenant, consumer.groups, principal.subject, principal.method, \
         principal.claims.NAME",
    )
}

impl Var {
    fn value<'a>(&'a self, head: &'a RequestHeader, cx: &'a PolicyContext) -> std::borrow::Cow<'a, str> {
        match self {
            Self::Param(slot) => cx.params.get(*slot, cx.path(head)).into(),
            Self::ClientIp => cx.client.to_string().into(),
            Self::RequestId => cx.request_id().into(),
            Self::Host => authority::host(authority::authority(head)).into(),
            Self::Path => cx.path(head).into(),
            Self::Query => head.uri.query().unwrap_or("").into(),
            Self::Method => head.method.as_str().into(),
            Self::Scheme => cx.scheme().into(),
            Self::Header(name) => {
                head.headers.get(name).map_or("".into(), |value| String::from_utf8_lossy(value.as_bytes()))
            }
            Self::QueryParam(name) => query_value(head.uri.query().unwrap_or(""), name).into(),
            Self::Cookie(name) => cookie_value(head, name).into(),
            Self::Caller(caller) => cx.principal.as_deref().map_or("".into(), |known| caller.of(known)),
        }
    }
}

/// The first value of a query parameter, as it stands in the query.
pub fn query_value<'a>(query: &'a str, name: &str) -> &'a str {
    query
        .split('&')
        .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
        .unwrap_or("")
}

/// The first value of a cookie, as it stands in the Cookie fields.
pub fn cookie_value<'a>(head: &'a RequestHeader, name: &str) -> &'a str {
    head.headers
        .get_all(http::header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .find_map(|pair| pair.trim().split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::request_id::RequestId;

    fn head(target: &str) -> RequestHeader {
        let mut head = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        head.insert_header("host", "api.example.com:8080").unwrap();
        head.insert_header("cookie", "a=1; b=2").unwrap();
        head
    }

    fn scope(params: &[String]) -> Scope<'_> {
        Scope { params, route: Some("orders"), of_this_route: Cell::new(false) }
    }

    #[test]
    fn variables_are_replaced() {
        let head = head("/orders/7?x=%201");
        let mut cx = PolicyContext::new();
        cx.params.push((8, 9));
        cx.request_id = RequestId::take_over(b"id");
        let params = ["id".to_owned()];
        for (text, expected) in [
            ("plain", "plain"),
            ("{{id}}", "{id}"),
            ("{id}", "7"),
            ("a{id}b", "a7b"),
            ("{request.host} {request.method} {request.id}", "api.example.com GET id"),
            ("{query.x}{query.y}", "%201"),
            ("{cookie.b}{cookie.c}", "2"),
            ("{route.name}", "orders"),
            ("{header.host}", "api.example.com:8080"),
        ] {
            let template = Template::compile(text, &scope(&params)).unwrap();
            assert_eq!(template.render(&head, &cx), expected, "{text}");
        }
    }

    #[test]
    fn what_is_unknown_is_refused() {
        let params = ["id".to_owned()];
        for text in ["{nope}", "{", "}", "{id", "{header.a b}", "{}", "{query.}"] {
            assert!(Template::compile(text, &scope(&params)).is_err(), "{text}");
        }
        let problem = Template::compile("{client.id}", &scope(&params)).unwrap_err();
        assert_eq!(problem.remedy.as_deref(), Some("did you mean `{client.ip}`?"));
    }

    #[test]
    fn paths_have_no_slash_before_an_empty_parameter() {
        let head = head("/orders");
        let mut cx = PolicyContext::new();
        let params = ["rest".to_owned()];
        let template = Template::compile("/v2/{rest}", &scope(&params)).unwrap();
        assert_eq!(template.render_path(&head, &cx), "/v2");
        cx.params.push((1, 4));
        assert_eq!(template.render_path(&head, &cx), "/v2/ord");
        let whole = Template::compile("/base{request.path}", &scope(&params)).unwrap();
        assert_eq!(whole.render_path(&head, &cx), "/base/orders");
        let cookie = Template::compile("/c/{header.host}", &scope(&params)).unwrap();
        assert_eq!(cookie.render_path(&head, &cx), "/c/api.example.com:8080");
    }

    #[test]
    fn a_template_of_the_route_says_so() {
        let params = ["id".to_owned()];
        for (text, own) in [("{client.ip}", false), ("{id}", true), ("{route.name}", true)] {
            let scope = scope(&params);
            Template::compile(text, &scope).unwrap();
            assert_eq!(scope.of_this_route.get(), own, "{text}");
        }
    }
}

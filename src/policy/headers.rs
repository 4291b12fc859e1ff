//! Header fields set, added and removed.

use super::context::{HeaderEdit, PolicyContext};
use super::shared::template::{Scope, Template};
use super::{CompileEnv, Policy, Step};
use crate::message::hop_by_hop::is_the_protocols;
use crate::values::{ConfigPath, Finding, Problem};
use http::{HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Header fields set, added and removed: first `remove`, then `set`, then `add`. A field of the
/// request whose value says who calls (`{consumer.…}`, `{principal.…}`) is always taken from the
/// client's request first, and is not there if the caller is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeadersConfig {
    /// On the request as the upstream gets it.
    pub request: Edits,
    /// On the answer as the client gets it.
    pub response: Edits,
}

/// What is done to header fields. Values may hold `{…}` variables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Edits {
    /// Fields that have this value afterwards, and no other.
    pub set: BTreeMap<String, String>,
    /// Values that are added to what is there.
    pub add: BTreeMap<String, String>,
    /// Fields that are taken away.
    pub remove: Vec<String>,
}

/// [`HeadersConfig`], compiled.
#[derive(Debug)]
pub struct Headers {
    request: Vec<Edit>,
    response: Vec<Edit>,
}

#[derive(Debug)]
enum Edit {
    Remove(HeaderName),
    Set(HeaderName, Value),
    Add(HeaderName, Value),
}

#[derive(Debug)]
enum Value {
    Constant(HeaderValue),
    Template(Template),
}

impl Policy for Headers {
    const NAME: &'static str = "headers";
    type Config = HeadersConfig;

    fn compile(config: &HeadersConfig, env: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        let mut found = Vec::new();
        let mut request =
            compile_edits(&config.request, &env.scope, &ConfigPath::root().key("request"), &mut found);
        let disbelieved = request.iter().filter_map(Edit::of_caller).map(|name| Edit::Remove(name.clone()));
        request.splice(0..0, disbelieved.collect::<Vec<_>>());
        let response =
            compile_edits(&config.response, &env.scope, &ConfigPath::root().key("response"), &mut found);
        if found.is_empty() { Ok(Self { request, response }) } else { Err(found) }
    }

    fn sees_answers(&self) -> bool {
        !self.response.is_empty()
    }

    fn on_request<'a>(&'a self, head: &'a RequestHeader, cx: &'a mut PolicyContext) -> Step<'a> {
        for edit in &self.request {
            let recorded = match edit {
                Edit::Remove(name) => Some(HeaderEdit::Remove(name.clone())),
                Edit::Set(name, value) => {
                    value.get(head, cx).map(|value| HeaderEdit::Set(name.clone(), value))
                }
                Edit::Add(name, value) => {
                    value.get(head, cx).map(|value| HeaderEdit::Add(name.clone(), value))
                }
            };
            cx.edits.headers.extend(recorded);
        }
        Step::Continue
    }

    fn on_response(&self, request: &RequestHeader, answer: &mut ResponseHeader, cx: &mut PolicyContext) {
        for edit in &self.response {
            // A name that was parsed and a value that was checked cannot be refused; were it so,
            // the answer would go out without the field.
            let _ = match edit {
                Edit::Remove(name) => {
                    answer.remove_header(name);
                    Ok(())
                }
                Edit::Set(name, value) => match value.get(request, cx) {
                    Some(value) => answer.insert_header(name.clone(), value),
                    None => Ok(()),
                },
                Edit::Add(name, value) => match value.get(request, cx) {
                    Some(value) => answer.append_header(name.clone(), value).map(drop),
                    None => Ok(()),
                },
            };
        }
    }
}

impl Edit {
    /// The field, if its value says who calls: nobody else may say so.
    fn of_caller(&self) -> Option<&HeaderName> {
        match self {
            Self::Set(name, Value::Template(template)) | Self::Add(name, Value::Template(template)) => {
                template.tells_caller().then_some(name)
            }
            _ => None,
        }
    }
}

impl Value {
    fn get(&self, head: &RequestHeader, cx: &PolicyContext) -> Option<HeaderValue> {
        match self {
            Self::Constant(value) => Some(value.clone()),
            Self::Template(template) => template.header_value(head, cx),
        }
    }
}

fn compile_edits(edits: &Edits, scope: &Scope<'_>, path: &ConfigPath, found: &mut Vec<Finding>) -> Vec<Edit> {
    let mut compiled = Vec::new();
    for (at, name) in edits.remove.iter().enumerate() {
        match field_name(name) {
            Ok(name) => compiled.push(Edit::Remove(name)),
            Err(problem) => found.push(Finding::error(path.key("remove").index(at), problem)),
        }
    }
    let set = edits.set.iter().map(|field| ("set", field, Edit::Set as fn(HeaderName, Value) -> Edit));
    let add = edits.add.iter().map(|field| ("add", field, Edit::Add as fn(HeaderName, Value) -> Edit));
    for (key, (name, text), edit) in set.chain(add) {
        match field_name(name).and_then(|name| Ok((name, field_value(text, scope)?))) {
            Ok((name, value)) => compiled.push(edit(name, value)),
            Err(problem) => found.push(Finding::error(path.key(key).key(name), problem)),
        }
    }
    compiled
}

fn field_name(text: &str) -> Result<HeaderName, Problem> {
    let name: HeaderName =
        text.parse().map_err(|_| Problem::new(format!("`{text}` is not a header field's name")))?;
    if is_the_protocols(name.as_str()) {
        let remedy =
            if name == "host" { "use the upstream's `host` or the policy `rewrite`" } else { "leave it out" };
        return Err(Problem::new(format!("`{name}` belongs to the gateway")).remedy(remedy));
    }
    Ok(name)
}

fn field_value(text: &str, scope: &Scope<'_>) -> Result<Value, Problem> {
    let template = Template::compile(text, scope)?;
    match template.constant() {
        Some(constant) => HeaderValue::from_str(constant)
            .map(Value::Constant)
            .map_err(|_| Problem::new("a header field cannot hold line breaks or control characters")),
        None => Ok(Value::Template(template)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Method, Principal};

    fn policy(yaml: &str) -> Result<Headers, Vec<Finding>> {
        let config: HeadersConfig = serde_saphyr::from_str(yaml).unwrap();
        Headers::compile(&config, &CompileEnv::default())
    }

    #[test]
    fn remove_then_set_then_add() {
        let policy =
            policy("response: { remove: [server], set: { x-a: '1' }, add: { x-b: '{request.method}' } }")
                .unwrap();
        let head = RequestHeader::build("PUT", b"/", None).unwrap();
        let mut answer = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [("server", "x"), ("x-a", "0"), ("x-b", "0")] {
            answer.insert_header(name, value).unwrap();
        }
        policy.on_response(&head, &mut answer, &mut PolicyContext::new());
        let all = |name: &str| {
            answer.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>().join(",")
        };
        assert_eq!((all("server"), all("x-a"), all("x-b")), (String::new(), "1".into(), "0,PUT".into()));
    }

    #[test]
    fn request_edits_are_recorded_in_order() {
        let policy = policy("request: { remove: [x-a], set: { x-b: '1' } }").unwrap();
        let head = RequestHeader::build("GET", b"/", None).unwrap();
        let mut cx = PolicyContext::new();
        assert!(matches!(policy.on_request(&head, &mut cx), Step::Continue));
        let name = HeaderName::from_static;
        assert_eq!(
            cx.edits.headers,
            [HeaderEdit::Remove(name("x-a")), HeaderEdit::Set(name("x-b"), HeaderValue::from_static("1"))]
        );
    }

    #[test]
    fn what_says_who_calls_is_taken_from_the_client_first() {
        let policy = policy(
            "request: { set: { x-c: '{consumer.name}', x-s: 'a {principal.subject}' }, \
             add: { x-c: 'also {principal.method}', x-t: '{principal.claims.tier}' } }",
        )
        .unwrap();
        let head = RequestHeader::build("GET", b"/", None).unwrap();
        let edits = |principal| {
            let mut cx = PolicyContext { principal, ..PolicyContext::new() };
            assert!(matches!(policy.on_request(&head, &mut cx), Step::Continue));
            cx.edits.headers
        };
        let name = HeaderName::from_static;
        let removed = ["x-c", "x-s", "x-c", "x-t"].map(|field| HeaderEdit::Remove(name(field)));
        assert_eq!(edits(None), removed, "nobody");
        let subject = "M\u{fc}ller\r\nx-admin: 1";
        assert_eq!(
            edits(Some(Principal::new(Method::Basic, subject).into()))[4..],
            [HeaderEdit::Add(name("x-c"), HeaderValue::from_static("also basic"))]
        );
        let known = Principal::new(Method::Jwt, "M\u{fc}ller");
        let known = Principal { claims: serde_json::json!({ "tier": ["a", "b"] }), ..known };
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).unwrap();
        assert_eq!(
            edits(Some(known.into()))[4..],
            [
                HeaderEdit::Set(name("x-s"), value("a M\u{fc}ller")),
                HeaderEdit::Add(name("x-c"), value("also jwt")),
                HeaderEdit::Add(name("x-t"), value("a,b")),
            ]
        );
    }

    #[test]
    fn mistakes_have_their_places() {
        for (yaml, path) in [
            ("request: { set: { host: x } }", "request.set.host"),
            ("response: { remove: [content-length] }", "response.remove[0]"),
            ("response: { add: { 'a b': x } }", "response.add.a b"),
            ("response: { add: { a: '{nope}' } }", "response.add.a"),
            ("response: { add: { a: \"x\\ny\" } }", "response.add.a"),
        ] {
            let found = policy(yaml).unwrap_err();
            assert_eq!(found[0].path.to_string(), path, "{yaml}");
        }
    }
}

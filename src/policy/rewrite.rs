//! Another path or host for the upstream.

use super::context::PolicyContext;
use super::shared::template::Template;
use super::{CompileEnv, Policy, Step, at};
use crate::message::authority;
use crate::rejection::Rejection;
use crate::values::{ConfigPath, Finding, Problem};
use http::StatusCode;
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Another path or host for the upstream. What is not given stays; the query always does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RewriteConfig {
    /// The path, with the route's parameters as `{name}`: `/v2/orders/{rest}`.
    pub path: Option<String>,
    /// The Host, with `{…}` variables.
    pub host: Option<String>,
}

/// [`RewriteConfig`], compiled.
#[derive(Debug)]
pub struct Rewrite {
    path: Option<Template>,
    host: Option<Template>,
}

/// What the request brought does not make a path or a host that could be asked for.
pub const REWRITE_FAILED: &str = "rewrite_failed";

impl Policy for Rewrite {
    const NAME: &'static str = "rewrite";
    type Config = RewriteConfig;

    fn compile(config: &RewriteConfig, env: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        if config.path.is_none() && config.host.is_none() {
            let problem =
                Problem::new("neither `path` nor `host` is given").remedy("give one, or take the policy out");
            return Err(vec![Finding::error(ConfigPath::root(), problem)]);
        }
        let mut found = Vec::new();
        let mut compile = |key: &str, text: &Option<String>, check: fn(&Template) -> Result<(), Problem>| {
            let template = Template::compile(text.as_deref()?, &env.scope)
                .and_then(|template| check(&template).map(|()| template));
            template.map_err(|problem| found.push(at(key, problem))).ok()
        };
        let path = compile("path", &config.path, check_path);
        let host = compile("host", &config.host, check_host);
        if config
            .path
            .as_ref()
            .is_some_and(|text| !text.starts_with('/') && !text.starts_with("{request.path}"))
        {
            found.push(at("path", Problem::new("a path begins with `/`")));
        }
        if found.is_empty() { Ok(Self { path, host }) } else { Err(found) }
    }

    fn on_request<'a>(&'a self, head: &'a RequestHeader, cx: &'a mut PolicyContext) -> Step<'a> {
        let refuse = |detail: &'static str| {
            let title = "The request cannot be passed on as it is";
            Step::reject(Rejection::new(StatusCode::BAD_REQUEST, REWRITE_FAILED, title).detail(detail))
        };
        if let Some(template) = &self.host {
            let host = template.render(head, cx);
            match host.parse() {
                Ok(value) if authority::is_valid(&host) => cx.edits.host = Some(value),
                _ => return refuse("the rewritten host is not one"),
            }
        }
        if let Some(template) = &self.path {
            let path = template.render_path(head, cx);
            if has_dot_segment(&path) {
                return refuse("the rewritten path has a dot segment");
            }
            cx.edits.path = Some(path);
        }
        Step::Continue
    }
}

/// A value of the request must not lead out of the path that the operator wrote.
fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(|segment| segment == "." || segment == "..")
}

fn check_path(template: &Template) -> Result<(), Problem> {
    match template.constant() {
        Some(path)
            if has_dot_segment(path)
                || !path.bytes().all(|c| c.is_ascii_graphic() && c != b'?' && c != b'#') =>
        {
            Err(Problem::new(
                "not a path: it has dot segments, `?`, `#`, spaces or other characters that a path cannot have",
            ))
        }
        _ => Ok(()),
    }
}

fn check_host(template: &Template) -> Result<(), Problem> {
    match template.constant() {
        Some(host) if !authority::is_valid(host) => Err(Problem::new(format!("`{host}` is not a host"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::shared::template::Scope;

    fn rewrite(
        config: &RewriteConfig,
        target: &str,
        rest: std::ops::Range<u32>,
    ) -> Result<PolicyContext, String> {
        let params = ["rest".to_owned()];
        let env =
            CompileEnv { scope: Scope { params: &params, ..Scope::default() }, ..CompileEnv::default() };
        let policy = Rewrite::compile(config, &env).map_err(|found| found[0].problem.to_string())?;
        let head = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        let mut cx = PolicyContext::new();
        cx.params.push((rest.start, rest.end));
        match policy.on_request(&head, &mut cx) {
            Step::Continue => {}
            Step::Reject(rejection) => return Err(rejection.detail.into_owned()),
            _ => unreachable!(),
        }
        Ok(cx)
    }

    #[test]
    fn the_path_is_made_of_parameters() {
        let config = RewriteConfig { path: Some("/v2/{rest}".into()), host: None };
        assert_eq!(rewrite(&config, "/orders/1/x", 8..11).unwrap().edits.path.as_deref(), Some("/v2/1/x"));
        assert_eq!(rewrite(&config, "/orders", 0..0).unwrap().edits.path.as_deref(), Some("/v2"));
    }

    #[test]
    fn a_value_cannot_climb() {
        let config = RewriteConfig { path: Some("/files/{query.name}".into()), host: None };
        assert!(rewrite(&config, "/x?name=..", 0..0).is_err());
        let path = rewrite(&config, "/x?name=a/../b", 0..0).unwrap().edits.path;
        assert_eq!(path.as_deref(), Some("/files/a%2F..%2Fb"));
    }

    #[test]
    fn a_host_must_be_one() {
        let config = RewriteConfig { path: None, host: Some("{query.h}".into()) };
        assert!(rewrite(&config, "/x?h=a@b", 0..0).is_err());
        assert_eq!(rewrite(&config, "/x?h=a.example:80", 0..0).unwrap().edits.host.unwrap(), "a.example:80");
    }

    #[test]
    fn mistakes_are_found_early() {
        for (path, host) in [
            (None, None),
            (Some("v2"), None),
            (Some("/a/../b"), None),
            (Some("/{nope}"), None),
            (Some("/a?b"), None),
            (None, Some("a b")),
        ] {
            let config = RewriteConfig { path: path.map(String::from), host: host.map(String::from) };
            assert!(rewrite(&config, "/", 0..0).is_err(), "{path:?} {host:?}");
        }
    }
}

//! A redirect.

use crate::config::model::route as model;
use crate::message::authority;
use crate::policy::context::PolicyContext;
use crate::policy::shared::template::{Scope, Template};
use crate::policy::{Reply, Verdict};
use crate::rejection::Rejection;
use crate::values::{ConfigPath, Finding, Problem};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use pingora_http::RequestHeader;

/// A redirect, compiled.
#[derive(Debug)]
pub struct Redirect {
    status: u16,
    scheme: Option<String>,
    host: Option<Template>,
    port: Option<u16>,
    path: Option<Template>,
    query: bool,
}

/// What the request brought does not make an address that could be gone to.
pub const REDIRECT_FAILED: &str = "redirect_failed";

impl Redirect {
    /// Makes of the text what is answered.
    ///
    /// # Errors
    /// An unknown variable, a redirect to itself, with the path from `redirect`.
    pub fn compile(config: &model::Redirect, scope: &Scope<'_>) -> Result<Self, Vec<Finding>> {
        let mut found = Vec::new();
        let at = |key: &str, problem| Finding::error(ConfigPath::root().key(key), problem);
        let mut template = |key: &str, text: &Option<String>| {
            Template::compile(text.as_deref()?, scope).map_err(|problem| found.push(at(key, problem))).ok()
        };
        let host = template("host", &config.host);
        let path = template("path", &config.path);
        if config.path.as_ref().is_some_and(|path| !path.starts_with(['/', '{'])) {
            found.push(at("path", Problem::new("a path begins with `/`")));
        }
        if config.scheme.is_none() && config.host.is_none() && config.port.is_none() && config.path.is_none()
        {
            let problem = Problem::new("a redirect that changes nothing goes round in circles")
                .remedy("give `scheme`, `host`, `port` or `path`");
            found.push(Finding::error(ConfigPath::root(), problem));
        }
        if !found.is_empty() {
            return Err(found);
        }
        let (status, scheme, port) = (config.status, config.scheme.clone(), config.port);
        Ok(Self { status, scheme, host, port, path, query: config.query })
    }

    /// The answer.
    pub fn answer(&self, head: &RequestHeader, cx: &PolicyContext) -> Verdict {
        match self.location(head, cx) {
            Some(location) => {
                let mut answer = super::head(self.status);
                let _ = answer.insert_header(header::LOCATION, location);
                Reply { head: answer, body: Bytes::new() }.into()
            }
            None => {
                let title = "There is nowhere to redirect this request to";
                Verdict::Reject(Box::new(Rejection::new(StatusCode::BAD_REQUEST, REDIRECT_FAILED, title)))
            }
        }
    }

    fn location(&self, head: &RequestHeader, cx: &PolicyContext) -> Option<HeaderValue> {
        let asked = authority::authority(head);
        let scheme = self.scheme.as_deref().unwrap_or(cx.scheme());
        let host = self.host.as_ref().map(|template| template.render(head, cx));
        let bare = authority::host(host.as_deref().unwrap_or(asked));
        let asked_port =
            asked[authority::host(asked).len()..].strip_prefix(':').filter(|port| !port.is_empty());
        let port = match (self.port, host.as_deref().or(self.scheme.as_deref())) {
            (Some(port), _) => Some(port.to_string()),
            (None, None) => asked_port.map(String::from),
            (None, Some(_)) => None,
        };
        let usual = if scheme == "https" { "443" } else { "80" };
        let port = port.filter(|port| port != usual).map(|port| format!(":{port}")).unwrap_or_default();
        if !authority::is_valid(bare) {
            return None;
        }
        let path = self.path.as_ref().map(|template| template.render_path(head, cx));
        let path = path.as_deref().unwrap_or_else(|| cx.path(head));
        // `//host` would be another site (RFC 3986 section 4.2) were the authority ever left out.
        let path = format!("/{}", path.trim_start_matches('/'));
        let query =
            head.uri.query().filter(|_| self.query).map(|query| format!("?{query}")).unwrap_or_default();
        HeaderValue::from_str(&format!("{scheme}://{bare}{port}{path}{query}")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(config: &model::Redirect, host: &str, target: &str) -> Option<String> {
        let redirect = Redirect::compile(config, &Scope::default()).unwrap();
        let mut head = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        head.insert_header("host", host).unwrap();
        match redirect.answer(&head, &PolicyContext::new()) {
            Verdict::Answer(reply) => Some(reply.head.headers["location"].to_str().unwrap().to_owned()),
            _ => None,
        }
    }

    #[test]
    fn what_is_not_given_stays() {
        let to = |scheme: Option<&str>, host: Option<&str>, port, path: Option<&str>| model::Redirect {
            scheme: scheme.map(String::from),
            host: host.map(String::from),
            port,
            path: path.map(String::from),
            ..model::Redirect::default()
        };
        for (config, host, target, expected) in [
            (to(Some("https"), None, None, None), "a.example:8080", "/x?y=1", "https://a.example/x?y=1"),
            (to(Some("https"), None, Some(8443), None), "a.example:8080", "/x", "https://a.example:8443/x"),
            (to(None, Some("b.example"), None, None), "a.example", "/x", "http://b.example/x"),
            (to(None, None, None, Some("/y")), "a.example:8080", "/x?q", "http://a.example:8080/y?q"),
            (to(Some("https"), None, Some(443), None), "[::1]:80", "/", "https://[::1]/"),
        ] {
            assert_eq!(location(&config, host, target).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_bad_host_is_not_gone_to() {
        let config = model::Redirect { scheme: Some("https".into()), ..model::Redirect::default() };
        assert_eq!(location(&config, "a@b", "/"), None);
    }

    #[test]
    fn a_redirect_to_itself_is_a_mistake() {
        assert!(Redirect::compile(&model::Redirect::default(), &Scope::default()).is_err());
    }
}

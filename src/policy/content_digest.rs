//! Whether a request's body is the one that its sender digested (`Content-Digest`, RFC 9530).
//!
//! ```yaml
//! policies:
//!   content_digest: { require: true, body: { max: 4MiB } }
//! ```
//!
//! An upstream gets nothing of a body whose digest is wrong. All digests that are given with SHA-256 or
//! SHA-512 have to match; other algorithms are passed over (RFC 9530 section 5 advises against them).

use super::context::PolicyContext;
use super::shared::digest::{self, Given, announces_body};
use super::shared::whole_body::WholeBody;
use super::{CompileEnv, Policy, Step};
use crate::rejection::Rejection;
use crate::values::{ConfigPath, Finding};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bodies have to be what their `content-digest` says (RFC 9530): 400 if they are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContentDigestConfig {
    /// Whether a body has to have a digest. Default false: one without passes.
    pub require: bool,
    /// How bodies are held until they are checked.
    pub body: WholeBody,
}

/// [`ContentDigestConfig`], compiled.
#[derive(Debug)]
pub struct ContentDigest {
    require: bool,
    body: WholeBody,
}

/// The field cannot be read.
pub const DIGEST_MALFORMED: &str = "digest_malformed";
/// The body is another one.
pub const DIGEST_MISMATCH: &str = "digest_mismatch";
/// There is none.
pub const DIGEST_REQUIRED: &str = "digest_required";

const WANT_CONTENT_DIGEST: HeaderName = HeaderName::from_static("want-content-digest");
/// Our preferences, from 1 to 10 (RFC 9530 section 4).
const WANTED: HeaderValue = HeaderValue::from_static("sha-512=5, sha-256=5");

impl Policy for ContentDigest {
    const NAME: &'static str = "content_digest";
    const READS_REQUESTS: bool = true;
    type Config = ContentDigestConfig;

    fn compile(config: &ContentDigestConfig, _: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        let at = ConfigPath::root().key("body");
        let found: Vec<_> = config.body.findings().into_iter().map(|finding| finding.under(&at)).collect();
        if found.is_empty() { Ok(Self { require: config.require, body: config.body }) } else { Err(found) }
    }

    fn on_request<'a>(&'a self, head: &RequestHeader, cx: &'a mut PolicyContext) -> Step<'a> {
        match digests(head) {
            Err(rejection) => return Step::Reject(rejection),
            Ok(digests) if !digests.is_empty() => cx.need_body(self.body),
            // A body that announces itself need not come to be refused.
            Ok(_) if self.require && announces_body(head) => return Step::reject(required()),
            Ok(_) if self.require => cx.need_body(self.body),
            Ok(_) => {}
        }
        Step::Continue
    }

    fn on_request_body(
        &self,
        head: &RequestHeader,
        body: &Bytes,
        _: &mut PolicyContext,
    ) -> Result<(), Box<Rejection>> {
        let digests = digests(head)?;
        if digests.is_empty() && self.require && !body.is_empty() {
            return Err(Box::new(required()));
        }
        match digests.iter().find(|given| !given.is_of(body)) {
            Some(wrong) => {
                let title = "The body is not the one that was digested";
                let rejection = Rejection::new(StatusCode::BAD_REQUEST, DIGEST_MISMATCH, title);
                Err(Box::new(rejection.detail(format!("by {:?}", wrong.algorithm()))))
            }
            None => Ok(()),
        }
    }
}

/// The digests that can be checked.
fn digests(head: &RequestHeader) -> Result<Vec<Given>, Box<Rejection>> {
    digest::given(head).map_err(|digest::Malformed| {
        let title = "The content digest cannot be read";
        Box::new(Rejection::new(StatusCode::BAD_REQUEST, DIGEST_MALFORMED, title))
    })
}

fn required() -> Rejection {
    let title = "The body needs a content digest";
    Rejection::new(StatusCode::BAD_REQUEST, DIGEST_REQUIRED, title).header(WANT_CONTENT_DIGEST, WANTED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::digest;
    use base64::Engine as _;

    const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

    fn policy(yaml: &str) -> Result<ContentDigest, Vec<Finding>> {
        let config: ContentDigestConfig = serde_saphyr::from_str(yaml).unwrap();
        ContentDigest::compile(&config, &CompileEnv::default())
    }

    fn of(algorithm: &'static digest::Algorithm, body: &[u8]) -> String {
        let name = if algorithm == &digest::SHA256 { "sha-256" } else { "sha-512" };
        let value = base64::engine::general_purpose::STANDARD.encode(digest::digest(algorithm, body));
        format!("{name}=:{value}:")
    }

    /// Empty if the request passes; whether its body had to be looked at.
    fn verdict(yaml: &str, lines: &[String], body: &'static [u8]) -> (&'static str, bool) {
        let policy = policy(yaml).unwrap();
        let mut head = RequestHeader::build("POST", b"/", None).unwrap();
        for line in lines {
            head.append_header(CONTENT_DIGEST, line.as_str()).unwrap();
        }
        let mut cx = PolicyContext::new();
        if let Step::Reject(rejection) = policy.on_request(&head, &mut cx) {
            return (rejection.code, false);
        }
        if cx.body_need.is_none() {
            return ("", false);
        }
        let checked = policy.on_request_body(&head, &Bytes::from_static(body), &mut cx);
        (checked.err().map_or("", |rejection| rejection.code), true)
    }

    #[test]
    fn every_digest_that_can_be_checked_has_to_match() {
        let (right, wrong) = (of(&digest::SHA256, b"body"), of(&digest::SHA256, b"other"));
        let long = of(&digest::SHA512, b"body");
        let md5 = "md5=:1B2M2Y8AsgTpgAmY7PhCfg==:".to_owned();
        for (lines, expected) in [
            (vec![right.clone()], ("", true)),
            (vec![long.clone()], ("", true)),
            (vec![right.clone(), long.clone()], ("", true)),
            (vec![format!("{right}, {md5}")], ("", true)),
            (vec![wrong.clone()], (DIGEST_MISMATCH, true)),
            (vec![long, wrong.clone()], (DIGEST_MISMATCH, true)),
            (vec![md5], ("", false)),
            (vec!["sha-256=:AAAA:".into()], (DIGEST_MISMATCH, true)),
            (vec!["sha-256=abc".into()], (DIGEST_MALFORMED, false)),
            (vec!["sha-256=(:AAAA:)".into()], (DIGEST_MALFORMED, false)),
            (vec!["sha-256".into()], (DIGEST_MALFORMED, false)),
            (vec!["sha-256=:AA".into()], (DIGEST_MALFORMED, false)),
            (vec![right, "=".into()], (DIGEST_MALFORMED, false)),
            (vec![], ("", false)),
        ] {
            assert_eq!(verdict("{}", &lines, b"body"), expected, "{lines:?}");
        }
        assert_eq!(verdict("{}", &[of(&digest::SHA256, b"")], b""), ("", true), "no body has a digest, too");
    }

    #[test]
    fn a_digest_can_be_required() {
        assert_eq!(verdict("require: true", &[], b"body"), (DIGEST_REQUIRED, true));
        assert_eq!(verdict("require: true", &[], b""), ("", true), "there is nothing to digest");
        assert_eq!(verdict("require: true", &["md5=:AAAA:".into()], b"body"), (DIGEST_REQUIRED, true));
        let mut head = RequestHeader::build("POST", b"/", None).unwrap();
        head.insert_header("content-length", "4").unwrap();
        let policy = policy("require: true").unwrap();
        let mut cx = PolicyContext::new();
        let Step::Reject(rejection) = policy.on_request(&head, &mut cx) else { panic!("it passed") };
        assert_eq!(rejection.headers, [(WANT_CONTENT_DIGEST, WANTED)], "before the body came");
    }

    #[test]
    fn mistakes_have_their_places() {
        for (yaml, path) in [("body: { max: 0B }", "body.max"), ("body: { time: 0s }", "body.time")] {
            assert_eq!(policy(yaml).unwrap_err()[0].path.to_string(), path);
        }
    }
}

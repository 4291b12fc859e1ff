//! gRPC-Web for upstreams that speak gRPC: what browsers can say is translated both ways.
//!
//! ```yaml
//! policies:
//!   grpc_web: {}
//!   cors: { origins: ["https://app.example.com"], headers: [content-type, x-grpc-web, x-user-agent, grpc-timeout] }
//! ```
//!
//! A request of another content type passes as it is. Trailers become the last frame of the body, and
//! in `-text` both bodies are base64 (the gRPC-Web protocol, "Protocol differences vs gRPC over
//! HTTP2"). A page may read the status also where an answer has no body to put it in.

mod call;

pub use call::Call;

use super::context::{HeaderEdit, PolicyContext};
use super::{CompileEnv, Policy, Step};
use crate::message::grpc::{self, Dialect};
use crate::rejection::Rejection;
use crate::values::Finding;
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_LENGTH, CONTENT_TYPE,
    HeaderMap, HeaderName, HeaderValue, TE,
};
use http::{Method, StatusCode};
use pingora_http::{RequestHeader, ResponseHeader};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a page must be able to read to know how a call ended.
const EXPOSED: HeaderValue = HeaderValue::from_static("grpc-status, grpc-message, grpc-status-details-bin");
const X_GRPC_WEB: HeaderName = HeaderName::from_static("x-grpc-web");

/// Calls of gRPC-Web become gRPC on their way upstream, which must speak `protocol: http2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrpcWebConfig {}

/// [`GrpcWebConfig`], compiled.
#[derive(Debug)]
pub struct GrpcWeb;

impl Policy for GrpcWeb {
    const NAME: &'static str = "grpc_web";
    const READS_ANSWERS: bool = true;
    type Config = GrpcWebConfig;

    fn compile(_: &GrpcWebConfig, _: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        Ok(Self)
    }

    fn on_request<'a>(&'a self, head: &RequestHeader, cx: &'a mut PolicyContext) -> Step<'a> {
        let dialect = grpc::dialect(&head.headers).filter(|dialect| *dialect != Dialect::Grpc);
        let Some(dialect) = dialect.filter(|_| head.method == Method::POST) else { return Step::Continue };
        let text = dialect == Dialect::WebText;
        let wants_text = head.headers.get(ACCEPT).and_then(|accept| {
            let accept = accept.as_bytes();
            grpc::dialect_of(accept).map(|dialect| dialect == Dialect::WebText)
        });
        let edits = &mut cx.edits.headers;
        edits.push(HeaderEdit::Set(CONTENT_TYPE, content_type(&head.headers, Dialect::Grpc)));
        edits.push(HeaderEdit::Set(TE, HeaderValue::from_static("trailers")));
        edits.push(HeaderEdit::Remove(ACCEPT));
        edits.push(HeaderEdit::Remove(X_GRPC_WEB));
        if text {
            edits.push(HeaderEdit::Remove(CONTENT_LENGTH));
        }
        cx.web_call = Some(Box::new(Call::new(text, wants_text.unwrap_or(text))));
        Step::Continue
    }

    fn on_response(&self, request: &RequestHeader, answer: &mut ResponseHeader, cx: &mut PolicyContext) {
        let Some(call) = &mut cx.web_call else { return };
        let is_grpc = grpc::dialect(&answer.headers) == Some(Dialect::Grpc);
        let is_call = is_grpc && answer.status == StatusCode::OK;
        call.translate(is_call);
        if is_call {
            let dialect = if call.answers_text() { Dialect::WebText } else { Dialect::Web };
            let content_type = content_type(&answer.headers, dialect);
            cx.watches_answer = true;
            // Neither can fail: they are values of header fields already.
            let _ = answer.insert_header(CONTENT_TYPE, content_type);
        }
        let is_said = is_call || grpc::dialect(&request.headers).is_some();
        if is_said && answer.headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
            let _ = answer.append_header(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }

    fn on_response_trailers(&self, trailers: &HeaderMap, cx: &mut PolicyContext) {
        if let Some(call) = &mut cx.web_call {
            call.end_with(trailers);
        }
    }

    fn on_response_body(
        &self,
        body: &mut Option<Bytes>,
        end: bool,
        cx: &mut PolicyContext,
    ) -> Result<(), Box<Rejection>> {
        if let Some(call) = &mut cx.web_call {
            *body = call.answer(body.take(), end);
        }
        Ok(())
    }
}

/// The same content in another dialect: what stands after `+` says what the messages are.
fn content_type(headers: &HeaderMap, dialect: Dialect) -> HeaderValue {
    let is = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let messages = is.iter().position(|c| *c == b'+').map_or(&b""[..], |plus| &is[plus..]);
    let value = [dialect.content_type().as_bytes(), messages].concat();
    HeaderValue::from_bytes(&value).unwrap_or(HeaderValue::from_static("application/grpc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(fields: &[(&'static str, &str)]) -> (PolicyContext, RequestHeader) {
        let mut request = RequestHeader::build("POST", b"/a.B/C", None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        let mut cx = PolicyContext::new();
        assert!(matches!(GrpcWeb.on_request(&request, &mut cx), Step::Continue));
        (cx, request)
    }

    #[test]
    fn a_call_becomes_grpc_and_its_answer_gets_back_what_it_was() {
        for (content_type, accept, upstream, back) in [
            ("application/grpc-web", None, "application/grpc", "application/grpc-web"),
            ("application/grpc-web+proto", None, "application/grpc+proto", "application/grpc-web+proto"),
            (
                "application/grpc-web-text+proto",
                None,
                "application/grpc+proto",
                "application/grpc-web-text+proto",
            ),
            (
                "application/grpc-web-text",
                Some("application/grpc-web"),
                "application/grpc",
                "application/grpc-web",
            ),
            ("application/grpc-web", Some("*/*"), "application/grpc", "application/grpc-web"),
        ] {
            let mut fields = vec![("content-type", content_type), ("content-length", "8")];
            fields.extend(accept.map(|accept| ("accept", accept)));
            let (mut cx, request) = asked(&fields);
            let edits = &cx.edits.headers;
            assert!(edits.contains(&HeaderEdit::Set(CONTENT_TYPE, HeaderValue::from_str(upstream).unwrap())));
            assert!(edits.contains(&HeaderEdit::Set(TE, HeaderValue::from_static("trailers"))));
            assert_eq!(edits.contains(&HeaderEdit::Remove(CONTENT_LENGTH)), content_type.contains("text"));
            let mut answer = ResponseHeader::build(200, None).unwrap();
            answer.insert_header("content-type", upstream).unwrap();
            answer.insert_header("access-control-allow-origin", "*").unwrap();
            GrpcWeb.on_response(&request, &mut answer, &mut cx);
            assert_eq!(answer.headers["content-type"], back, "{content_type}");
            assert!(cx.watches_answer);
            assert_eq!(answer.headers["access-control-expose-headers"], EXPOSED);
        }
    }

    #[test]
    fn what_is_no_call_stays_as_it_is() {
        for content_type in ["application/grpc", "application/json"] {
            let (cx, _) = asked(&[("content-type", content_type)]);
            assert!(cx.web_call.is_none() && cx.edits.headers.is_empty());
        }
        let (mut cx, request) = asked(&[("content-type", "application/grpc-web")]);
        for (status, content_type) in [(404, "text/plain"), (200, "text/html"), (502, "application/grpc")] {
            let mut answer = ResponseHeader::build(status, None).unwrap();
            answer.insert_header("content-type", content_type).unwrap();
            GrpcWeb.on_response(&request, &mut answer, &mut cx);
            assert_eq!(answer.headers["content-type"], content_type);
            let mut body = Some(Bytes::from_static(b"as it is"));
            GrpcWeb.on_response_body(&mut body, true, &mut cx).unwrap();
            assert_eq!(body.as_deref(), Some(&b"as it is"[..]));
        }
    }
}

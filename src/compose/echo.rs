//! The request itself, as JSON: for trying things out.

use crate::message::authority;
use crate::policy::Reply;
use crate::policy::context::PolicyContext;
use bytes::Bytes;
use http::header;
use pingora_http::RequestHeader;
use serde_json::{Map, Value, json};

/// Fields whose values are secrets and so are not shown to whoever watches the answer.
const HIDDEN: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

pub(super) fn reply(request: &RequestHeader, cx: &PolicyContext) -> Reply {
    let mut fields = Map::new();
    for (name, value) in &request.headers {
        let shown = if HIDDEN.contains(&name.as_str()) {
            "***".into()
        } else {
            String::from_utf8_lossy(value.as_bytes())
        };
        let list = fields.entry(name.as_str()).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(shown.into());
        }
    }
    let body = json!({
        "method": request.method.as_str(),
        "scheme": cx.scheme(),
        "host": authority::authority(request),
        "path": cx.path(request),
        "query": request.uri.query(),
        "client": cx.client.to_string(),
        "request_id": cx.request_id(),
        "headers": fields,
    });
    let mut head = super::head(200);
    let _ = head.insert_header(header::CONTENT_TYPE, "application/json");
    let _ = head.insert_header(header::CACHE_CONTROL, "no-store");
    Reply { head, body: Bytes::from(format!("{body:#}\n")) }
}

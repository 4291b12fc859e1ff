//! A fixed answer.

use crate::config::model::route as model;
use crate::policy::Reply;
use crate::values::{ConfigPath, Finding, Problem};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};

/// A fixed answer, compiled.
#[derive(Debug)]
pub struct Respond {
    status: u16,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

/// Fields that follow from the message itself.
const NOT_TO_SET: [&str; 5] = ["connection", "content-length", "date", "transfer-encoding", "upgrade"];

impl Respond {
    /// Makes of the text what is answered.
    ///
    /// # Errors
    /// A field that is none, or that belongs to the gateway, with its path from `respond`.
    pub fn compile(config: &model::Respond) -> Result<Self, Vec<Finding>> {
        let mut found = Vec::new();
        let mut headers = Vec::new();
        for (name, value) in &config.headers {
            match field(name, value) {
                Ok(field) => headers.push(field),
                Err(problem) => {
                    found.push(Finding::error(ConfigPath::root().key("headers").key(name), problem));
                }
            }
        }
        if !config.body.is_empty() && matches!(config.status, 204 | 304) {
            let problem = Problem::new(format!("an answer with status {} has no body", config.status));
            found.push(Finding::error(ConfigPath::root().key("body"), problem));
        }
        if !found.is_empty() {
            return Err(found);
        }
        if !config.body.is_empty() && !headers.iter().any(|(name, _)| name == header::CONTENT_TYPE) {
            headers.push((header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")));
        }
        Ok(Self { status: config.status, headers, body: Bytes::from(config.body.clone()) })
    }

    /// The answer.
    pub fn reply(&self) -> Reply {
        let mut head = super::head(self.status);
        for (name, value) in &self.headers {
            let _ = head.append_header(name.clone(), value.clone());
        }
        Reply { head, body: self.body.clone() }
    }
}

fn field(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Problem> {
    let name: HeaderName =
        name.parse().map_err(|_| Problem::new(format!("`{name}` is not a header field's name")))?;
    if NOT_TO_SET.contains(&name.as_str()) {
        return Err(Problem::new(format!("`{name}` follows from the answer itself")).remedy("leave it out"));
    }
    let value = HeaderValue::from_str(value)
        .map_err(|_| Problem::new("a header field cannot hold line breaks or control characters"))?;
    Ok((name, value))
}

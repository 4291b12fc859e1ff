//! An answer of the gateway's own: fixed, or with what is known of the request in it.

use crate::config::model::route as model;
use crate::policy::Reply;
use crate::policy::context::PolicyContext;
use crate::policy::shared::template::{Scope, Template};
use crate::values::{ConfigPath, Finding, Problem};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use pingora_http::RequestHeader;

/// An answer of the gateway's own, compiled.
#[derive(Debug)]
pub struct Respond {
    status: u16,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Fixed(Bytes),
    Made(Template, Syntax),
}

/// How a value has to be written so that it stays data where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syntax {
    /// Inside of a string (RFC 8259 section 7).
    Json,
    /// Inside of text or of an attribute in quotes.
    Markup,
    /// As it is.
    Plain,
}

/// Fields that follow from the message itself.
const NOT_TO_SET: [&str; 5] = ["connection", "content-length", "date", "transfer-encoding", "upgrade"];

impl Respond {
    /// Makes of the text what is answered.
    ///
    /// # Errors
    /// A field that is none, or that belongs to the gateway, an unknown variable, or variables in what nobody here
    /// knows the syntax of, with its path from `respond`.
    pub fn compile(config: &model::Respond, scope: &Scope<'_>) -> Result<Self, Vec<Finding>> {
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
        let body = body(config, &headers, scope)
            .map_err(|problem| found.push(Finding::error(ConfigPath::root().key("body"), problem)));
        let Some(body) = body.ok().filter(|_| found.is_empty()) else { return Err(found) };
        if !config.body.is_empty() && !headers.iter().any(|(name, _)| name == header::CONTENT_TYPE) {
            headers.push((header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")));
        }
        Ok(Self { status: config.status, headers, body })
    }

    /// The status that it answers with.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The answer.
    pub fn reply(&self, request: &RequestHeader, cx: &PolicyContext) -> Reply {
        let mut head = super::head(self.status);
        for (name, value) in &self.headers {
            let _ = head.append_header(name.clone(), value.clone());
        }
        let body = match &self.body {
            Body::Fixed(body) => body.clone(),
            Body::Made(template, syntax) => {
                template.render_with(request, cx, |out, value| syntax.write(out, value)).into()
            }
        };
        Reply { head, body }
    }
}

fn body(
    config: &model::Respond,
    headers: &[(HeaderName, HeaderValue)],
    scope: &Scope<'_>,
) -> Result<Body, Problem> {
    if !config.template {
        return Ok(Body::Fixed(Bytes::from(config.body.clone())));
    }
    let content_type = headers.iter().find(|(name, _)| name == header::CONTENT_TYPE);
    let content_type = content_type.map_or("text/plain", |(_, value)| value.to_str().unwrap_or_default());
    let syntax = Syntax::of(content_type).ok_or_else(|| {
        Problem::new(format!("nobody here knows how to write a value in `{content_type}`"))
            .remedy("answer with JSON, HTML, XML or plain text, or without `template`")
    })?;
    Ok(Body::Made(Template::compile(&config.body, scope)?, syntax))
}

impl Syntax {
    fn of(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match &*essence {
            "application/json" => Some(Self::Json),
            "text/html" | "text/xml" | "application/xml" => Some(Self::Markup),
            "text/plain" => Some(Self::Plain),
            other if other.ends_with("+json") => Some(Self::Json),
            other if other.ends_with("+xml") => Some(Self::Markup),
            _ => None,
        }
    }

    fn write(self, out: &mut String, value: &str) {
        match self {
            Self::Plain => out.push_str(value),
            Self::Json => {
                let quoted = serde_json::Value::from(value).to_string();
                out.push_str(quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(""));
            }
            Self::Markup => {
                for c in value.chars() {
                    match c {
                        '&' => out.push_str("&amp;"),
                        '<' => out.push_str("&lt;"),
                        '>' => out.push_str("&gt;"),
                        '"' => out.push_str("&quot;"),
                        '\'' => out.push_str("&#39;"),
                        c => out.push(c),
                    }
                }
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn body(content_type: &str, body: &str, value: &str) -> Result<String, Vec<Finding>> {
        let config = model::Respond {
            status: 200,
            headers: [("content-type".to_owned(), content_type.to_owned())].into(),
            body: body.to_owned(),
            template: true,
        };
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        head.insert_header("a", value).unwrap();
        let respond = Respond::compile(&config, &Scope::default())?;
        Ok(String::from_utf8(respond.reply(&head, &PolicyContext::new()).body.to_vec()).unwrap())
    }

    #[test]
    fn what_a_request_brought_stays_data() {
        for (content_type, template, value, expected) in [
            ("application/json", r#"{{"a":"{header.a}"}}"#, r#""x\"#, r#"{"a":"\"x\\"}"#),
            ("application/problem+json; charset=utf-8", r#""{header.a}""#, "\"", r#""\"""#),
            ("text/html", "<p>{header.a}</p>", "'<b>\"&", "<p>&#39;&lt;b&gt;&quot;&amp;</p>"),
            ("image/svg+xml", "<a>{header.a}</a>", "<", "<a>&lt;</a>"),
            ("Text/Plain", "{header.a}", "<b>", "<b>"),
        ] {
            assert_eq!(body(content_type, template, value).unwrap(), expected, "{content_type}");
        }
    }

    #[test]
    fn what_nobody_knows_the_syntax_of_has_no_variables() {
        for (content_type, template) in
            [("text/javascript", "x"), ("application/octet-stream", "x"), ("text/html", "{what}")]
        {
            let found = body(content_type, template, "").unwrap_err();
            assert_eq!(found[0].path.to_string(), "body", "{content_type}");
        }
    }
}

//! A token as an authorisation server grants it (RFC 6749, section 5.1).

use crate::identity::json;
use crate::outbound::{Answer, Failure};
use http::{HeaderValue, StatusCode};
use serde_json::Value;
use std::time::{Duration, Instant};

/// However long a server says, a token is not used for longer than this without asking again.
const LONGEST: Duration = Duration::from_secs(86_400);
/// A token is not sent in the last moments of its life: it has to arrive, and clocks differ.
const MARGIN: Duration = Duration::from_secs(10);

/// A token for an upstream.
#[derive(Clone, Debug)]
pub struct Token {
    /// The value of `authorization`.
    pub value: HeaderValue,
    /// It is sent until then.
    pub until: Instant,
    /// It should be replaced from then on.
    pub refresh: Instant,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The server refused, with this error code (RFC 6749, section 5.2).
    Refused(String),
    /// The server did not answer, or not as it should.
    Failed(String),
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(code) => write!(f, "refused: {code}"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl Token {
    /// Reads an answer to a call that was made at `asked`; `lifetime` is for a server that does not say.
    pub(super) fn read(
        answer: Result<Answer, Failure>,
        asked: Instant,
        lifetime: Duration,
    ) -> Result<Self, Denied> {
        let answer = answer.map_err(|failure| Denied::Failed(failure.to_string()))?;
        let members = json::object(&answer.body);
        if answer.status != StatusCode::OK {
            let code = members.ok().and_then(|members| members.get("error")?.as_str().map(shown));
            return Err(match code {
                Some(code) if answer.status.is_client_error() => Denied::Refused(code),
                _ => Denied::Failed(format!("status {}", answer.status.as_u16())),
            });
        }
        let members = members.map_err(Denied::Failed)?;
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let failed = |why: &str| Denied::Failed(why.to_owned());
        if !text("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
            return Err(failed("`token_type` is not `Bearer`"));
        }
        let token = text("access_token").filter(|token| is_b64token(token));
        let token = token.ok_or_else(|| failed("`access_token` is no token"))?;
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| failed("`access_token` is no token"))?;
        value.set_sensitive(true);
        let life = match members.get("expires_in") {
            None => lifetime,
            // Some servers write the number as text.
            Some(Value::String(text)) => seconds(text.parse().ok())?,
            Some(value) => seconds(value.as_f64())?,
        };
        let life = life.min(LONGEST);
        // Of a life shorter than two margins, the half counts.
        let until = asked + life.saturating_sub(MARGIN).max(life / 2);
        Ok(Self { value, until, refresh: asked + life.mul_f64(0.75).min(until - asked) })
    }
}

fn seconds(number: Option<f64>) -> Result<Duration, Denied> {
    let wrong = || Denied::Failed("`expires_in` is no number of seconds".to_owned());
    let number = number.filter(|number| *number >= 0.0).ok_or_else(wrong)?;
    Ok(Duration::from_secs_f64(number.min(LONGEST.as_secs_f64())))
}

/// RFC 6750, section 2.1.
fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._~+/".contains(&c))
}

fn shown(code: &str) -> String {
    code.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::HeaderMap;

    fn read(status: u16, body: &'static str) -> Result<(String, u64, u64), Denied> {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Answer { status, headers: HeaderMap::new(), body: Bytes::from_static(body.as_bytes()) };
        let asked = Instant::now();
        let token = Token::read(Ok(answer), asked, Duration::from_secs(300))?;
        let value = token.value.to_str().unwrap().to_owned();
        Ok((value, (token.refresh - asked).as_secs(), (token.until - asked).as_secs()))
    }

    #[test]
    fn tokens_as_servers_grant_them() {
        for (body, refresh, until) in [
            (r#"{"access_token":"abc","token_type":"Bearer","expires_in":3600}"#, 2700, 3590),
            (r#"{"access_token":"abc","token_type":"bearer","expires_in":"3600"}"#, 2700, 3590),
            (r#"{"access_token":"abc","token_type":"bearer","expires_in":60}"#, 45, 50),
            (r#"{"access_token":"abc","token_type":"bearer","expires_in":12}"#, 6, 6),
            (r#"{"access_token":"abc","token_type":"BEARER"}"#, 225, 290),
            (r#"{"access_token":"abc","token_type":"Bearer","expires_in":1e300}"#, 64_800, 86_390),
            (r#"{"access_token":"abc","token_type":"Bearer","expires_in":0}"#, 0, 0),
        ] {
            assert_eq!(read(200, body), Ok(("Bearer abc".to_owned(), refresh, until)), "{body}");
        }
    }

    #[test]
    fn what_is_none_is_a_failure() {
        for body in [
            "",
            "[]",
            r#"{"access_token":"abc"}"#,
            r#"{"access_token":"abc","token_type":"mac"}"#,
            r#"{"token_type":"Bearer"}"#,
            r#"{"access_token":"","token_type":"Bearer"}"#,
            r#"{"access_token":"=","token_type":"Bearer"}"#,
            r#"{"access_token":"a b","token_type":"Bearer"}"#,
            r#"{"access_token":"a\r\nx: y","token_type":"Bearer"}"#,
            r#"{"access_token":"abc","token_type":"Bearer","expires_in":-1}"#,
            r#"{"access_token":"abc","token_type":"Bearer","expires_in":true}"#,
            r#"{"access_token":"abc","token_type":"Bearer","expires_in":"soon"}"#,
            r#"{"access_token":"abc","access_token":"abd","token_type":"Bearer"}"#,
        ] {
            assert!(matches!(read(200, body), Err(Denied::Failed(_))), "{body}");
        }
        assert!(matches!(read(500, r#"{"error":"server_error"}"#), Err(Denied::Failed(_))));
        assert!(matches!(read(302, ""), Err(Denied::Failed(_))));
        assert!(matches!(read(400, ""), Err(Denied::Failed(_))));
        assert_eq!(
            read(400, r#"{"error":"invalid_grant"}"#),
            Err(Denied::Refused("invalid_grant".to_owned()))
        );
    }
}

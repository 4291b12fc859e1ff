//! What an issuer says of itself (OpenID Connect Discovery 1.0, section 3).

use crate::values::ServiceUrl;
use serde::Deserialize;

/// An issuer's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Where a browser logs in.
    pub authorization: ServiceUrl,
    /// Where codes and refresh tokens become tokens.
    pub token: ServiceUrl,
    /// Where there is more about a user.
    pub userinfo: Option<ServiceUrl>,
    /// Where a browser logs out.
    pub end_session: Option<ServiceUrl>,
    /// Its keys.
    pub keys: ServiceUrl,
    /// True if it says with each answer who it is (RFC 9207).
    pub names_itself: bool,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    userinfo_endpoint: Option<String>,
    end_session_endpoint: Option<String>,
    jwks_uri: String,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// Where an issuer's metadata is (section 4.1). None where the issuer is no address of a service.
pub fn address(issuer: &str) -> Option<ServiceUrl> {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')).parse().ok()
}

impl Metadata {
    /// Reads what this issuer says of itself.
    ///
    /// # Errors
    /// What is wrong with it, for the log: it is not JSON, speaks of another issuer, lacks an
    /// endpoint, or names one that is not safe to use.
    pub fn parse(issuer: &str, body: &[u8]) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if document.issuer != issuer {
            let shown: String = document.issuer.chars().take(200).collect();
            return Err(format!("it speaks of the issuer {shown:?}"));
        }
        let by_tls = issuer.starts_with("https:");
        let endpoint = |name: &str, text: &str| -> Result<ServiceUrl, String> {
            let url: ServiceUrl = text.parse().map_err(|error| format!("{name}: {error}"))?;
            if by_tls && url.get().scheme() != "https" {
                return Err(format!("{name}: `{url}` is not `https`, as the issuer is"));
            }
            Ok(url)
        };
        let optional = |name: &str, text: Option<&str>| text.map(|text| endpoint(name, text)).transpose();
        Ok(Self {
            authorization: endpoint("authorization_endpoint", &document.authorization_endpoint)?,
            token: endpoint("token_endpoint", &document.token_endpoint)?,
            userinfo: optional("userinfo_endpoint", document.userinfo_endpoint.as_deref())?,
            end_session: optional("end_session_endpoint", document.end_session_endpoint.as_deref())?,
            keys: endpoint("jwks_uri", &document.jwks_uri)?,
            names_itself: document.authorization_response_iss_parameter_supported,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ISSUER: &str = "https://id.example";

    fn document() -> Value {
        json!({
            "issuer": ISSUER,
            "authorization_endpoint": "https://id.example/auth",
            "token_endpoint": "https://id.example/token",
            "jwks_uri": "https://id.example/jwks",
            "scopes_supported": ["openid"],
        })
    }

    fn with(name: &str, value: Value) -> Result<Metadata, String> {
        let mut document = document();
        document[name] = value;
        Metadata::parse(ISSUER, document.to_string().as_bytes())
    }

    #[test]
    fn an_issuer_is_taken_at_its_word() {
        let plain = Metadata::parse(ISSUER, document().to_string().as_bytes()).unwrap();
        assert_eq!(plain.token.as_str(), "https://id.example/token");
        assert!(plain.end_session.is_none() && !plain.names_itself);
        let more = with("end_session_endpoint", json!("https://id.example/end")).unwrap();
        assert_eq!(more.end_session.unwrap().as_str(), "https://id.example/end");
        assert!(with("authorization_response_iss_parameter_supported", json!(true)).unwrap().names_itself);
        assert_eq!(address(ISSUER).unwrap(), address("https://id.example/").unwrap());
    }

    #[test]
    fn but_not_for_nonsense() {
        for (name, value) in [
            ("issuer", json!("https://evil.example")),
            ("issuer", json!("https://id.example/")),
            ("issuer", Value::Null),
            ("token_endpoint", json!("http://127.0.0.1/token")),
            ("token_endpoint", json!("http://id.example/token")),
            ("token_endpoint", json!("file:///etc/passwd")),
            ("authorization_endpoint", json!("javascript:alert(1)")),
            ("jwks_uri", json!(7)),
            ("end_session_endpoint", json!("//x")),
        ] {
            assert!(with(name, value.clone()).is_err(), "{name}: {value}");
        }
        for body in ["", "[]", "{}", "<html>"] {
            assert!(Metadata::parse(ISSUER, body.as_bytes()).is_err(), "{body}");
        }
    }
}

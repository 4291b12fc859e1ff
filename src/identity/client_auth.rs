//! How the gateway says who it is to an authorisation server (RFC 6749, section 2.3.1).

use crate::outbound::Call;
use crate::values::{Secret, ServiceUrl};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::{ACCEPT, AUTHORIZATION};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a client says who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// In the field `authorization`, with the scheme `Basic`.
    #[default]
    Basic,
    /// In the form, as `client_id` and `client_secret`.
    Post,
}

/// Who the gateway is at an authorisation server.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The client's name there.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
    /// How it says so.
    pub auth: ClientAuth,
}

impl Credentials {
    /// A POST of this form, with who asks. The answer is wanted in JSON.
    pub fn form(&self, url: &ServiceUrl, fields: &[(&str, &str)]) -> Call {
        let json = HeaderValue::from_static("application/json");
        match self.auth {
            ClientAuth::Post => {
                let own = [("client_id", self.id.as_str()), ("client_secret", self.secret.expose())];
                Call::form(url.clone(), &[fields, &own].concat()).header(ACCEPT, json)
            }
            ClientAuth::Basic => {
                let call = Call::form(url.clone(), fields).header(ACCEPT, json);
                match self.basic() {
                    Some(value) => call.header(AUTHORIZATION, value),
                    None => call,
                }
            }
        }
    }

    /// Both are encoded as forms are, before they are put together (RFC 6749, section 2.3.1).
    fn basic(&self) -> Option<HeaderValue> {
        let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encode(&self.id), encode(self.secret.expose()));
        let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_secrets_are_encoded_first() {
        let credentials =
            Credentials { id: "a b:c".to_owned(), secret: Secret::new("x%:y"), auth: ClientAuth::Basic };
        let value = credentials.basic().unwrap();
        let pair = value.to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
        assert_eq!(STANDARD.decode(pair).unwrap(), b"a+b%3Ac:x%25%3Ay");
        assert!(!format!("{credentials:?} {value:?}").contains("x%"));
    }
}

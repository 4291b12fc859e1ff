//! The issuer: what it says of itself, and the tokens that it gives.

use super::id_token::{self, Expected};
use super::lately::Lately;
use super::metadata::{self, Metadata};
use super::tokens::{NoTokens, TokenRequest, Tokens};
use crate::identity::client_auth::Credentials;
use crate::identity::flights::Flights;
use crate::identity::jwt::{Checked, Jwt};
use crate::identity::principal::Principal;
use crate::outbound::{Call, Client};
use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, StatusCode};
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How often an issuer is asked again what it says of itself.
const EVERY: Duration = Duration::from_secs(3600);
/// How soon after a failure, at first and at most.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

type Asked = Result<Arc<Metadata>, String>;

/// What is known of an issuer. Outlives configurations.
#[derive(Debug)]
pub struct Known {
    /// Kept while the issuer is away.
    metadata: ArcSwapOption<Metadata>,
    /// Logins that come before anything is known ask together, and once a second.
    asks: Arc<Flights<(), Asked>>,
    asked: Lately<(), Asked>,
}

impl Default for Known {
    fn default() -> Self {
        Self { metadata: ArcSwapOption::empty(), asks: Arc::default(), asked: Lately::new(1) }
    }
}

/// An issuer, as one client of it sees it.
#[derive(Debug)]
pub struct Issuer {
    /// Its name, to the byte.
    pub name: Box<str>,
    /// Who the client is.
    pub client_id: Box<str>,
    /// How it proves that; a public client does not.
    pub(super) credentials: Option<Credentials>,
    pub(super) userinfo: bool,
    /// Checks ID tokens.
    pub(super) jwt: Jwt,
    pub(super) client: Client,
    pub(super) known: Arc<Known>,
}

/// What is asked of an issuer, for whom.
#[derive(Debug)]
pub struct Ask<'a> {
    /// The request itself.
    pub request: TokenRequest<'a>,
    /// What the ID token has to hold.
    pub nonce: &'a str,
    /// Whose it has to be, at a refresh.
    pub subject: Option<&'a str>,
    /// The browser's address.
    pub client: IpAddr,
}

/// What an issuer gave.
#[derive(Debug)]
pub struct Grant {
    /// Who logged in; nothing if a refresh brought no ID token.
    pub claims: Option<Value>,
    /// The tokens.
    pub tokens: Tokens,
    /// When they expire, in Unix seconds.
    pub fresh_until: u64,
}

/// Why an issuer gave nothing that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// A stable word for the log.
    pub cause: &'static str,
    /// What happened, for the log alone.
    pub detail: Box<str>,
}

impl Failed {
    /// The issuer could not be asked.
    pub const UNAVAILABLE: &'static str = "issuer_unavailable";
    /// The issuer says no: what it was asked with is no good any more.
    pub const REFUSED: &'static str = "issuer_refused";

    fn new(cause: &'static str, detail: impl Into<Box<str>>) -> Self {
        Self { cause, detail: detail.into() }
    }
}

impl Issuer {
    /// What it says of itself: what is known or, before anything is, what it answers now.
    ///
    /// # Errors
    /// It does not answer, or with nonsense.
    pub async fn metadata(&self, now: u64) -> Result<Arc<Metadata>, Failed> {
        if let Some(known) = self.known.metadata.load_full() {
            return Ok(known);
        }
        let asked = match self.known.asked.get(&(), now) {
            Some(asked) => Some(asked),
            None => {
                let (name, client, known) = (self.name.clone(), self.client.clone(), Arc::clone(&self.known));
                let work = || async move {
                    let asked = fetch(&name, &client, &known).await;
                    known.asked.put((), asked.clone(), now.saturating_add(1), now);
                    asked
                };
                self.known.asks.join((), 1, work).await
            }
        };
        match asked {
            Some(Ok(metadata)) => Ok(metadata),
            Some(Err(why)) => Err(Failed::new(Failed::UNAVAILABLE, why)),
            None => Err(Failed::new(Failed::UNAVAILABLE, "nothing is known of the issuer")),
        }
    }

    /// What is known of it without asking.
    pub fn known(&self) -> Option<Arc<Metadata>> {
        self.known.metadata.load_full()
    }

    /// Asks it at once what it says of itself, and again from time to time. Never ends.
    pub async fn keep_known(&self) {
        let mut failures = 0;
        loop {
            let wait = match fetch(&self.name, &self.client, &self.known).await {
                Ok(_) => {
                    failures = 0;
                    EVERY
                }
                Err(why) => {
                    if failures == 0 {
                        log::warn!("issuer not asked issuer={} cause={why:?}", self.name);
                    }
                    failures = (failures + 1).min(10);
                    (AGAIN[0] * (1 << failures)).min(AGAIN[1])
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks for tokens, and checks them.
    ///
    /// # Errors
    /// Why there are none that count.
    pub async fn grant(&self, ask: Ask<'_>, now: u64) -> Result<Grant, Failed> {
        let Ask { request, nonce, subject, client } = ask;
        let metadata = self.metadata(now).await?;
        let tokens = self.tokens(&metadata, request).await?;
        let Some(id_token) = &tokens.id_token else {
            if subject.is_none() {
                return Err(Failed::new("id_token_missing", "the tokens hold no ID token"));
            }
            let fresh_until = tokens.fresh_until(now, None);
            return Ok(Grant { claims: None, fresh_until, tokens });
        };
        let access_token = &tokens.access_token;
        let expected = Expected { client_id: &self.client_id, nonce, subject, access_token };
        let principal = self.signed(id_token, client, now).await?;
        let algorithm = algorithm(id_token).unwrap_or_default();
        id_token::check(&principal.claims, &algorithm, &expected)
            .map_err(|cause| Failed::new(cause, cause))?;
        let mut claims = principal.claims.clone();
        if let Some(url) = metadata.userinfo.as_ref().filter(|_| self.userinfo) {
            let more = self.userinfo(Call::get(url.clone()), access_token).await?;
            add(&mut claims, more)?;
        }
        let fresh_until = tokens.fresh_until(now, claims["exp"].as_u64());
        Ok(Grant { claims: Some(claims), fresh_until, tokens })
    }

    /// Whose a token is, by its signature, issuer, audience and times.
    async fn signed(&self, id_token: &str, client: IpAddr, now: u64) -> Result<Arc<Principal>, Failed> {
        let checked = match self.jwt.check(id_token, now) {
            Checked::Admitted(principal) => Ok(principal),
            Checked::Refused(refused) => Err(refused),
            Checked::KeyMissing(pending) => self.jwt.wait(pending, client, || now).await,
        };
        checked.map_err(|refused| Failed::new("id_token_refused", format!("{refused:?}")))
    }

    async fn tokens(&self, metadata: &Metadata, request: TokenRequest<'_>) -> Result<Tokens, Failed> {
        let mut fields = request.fields();
        let call = match &self.credentials {
            Some(credentials) => credentials.form(&metadata.token, &fields),
            None => {
                fields.push(("client_id", &self.client_id));
                Call::form(metadata.token.clone(), &fields)
                    .header(ACCEPT, HeaderValue::from_static("application/json"))
            }
        };
        let answer = self.client.call(call).await;
        let answer = answer.map_err(|failure| Failed::new(Failed::UNAVAILABLE, failure.to_string()))?;
        Tokens::parse(answer.status, &answer.body).map_err(|why| match why {
            NoTokens::Refused(why) => Failed::new(Failed::REFUSED, why),
            NoTokens::Failed(why) => Failed::new("issuer_failed", why),
        })
    }

    async fn userinfo(&self, call: Call, access_token: &str) -> Result<Value, Failed> {
        let failed = |why: String| Failed::new("userinfo_failed", why);
        let bearer = HeaderValue::from_str(&format!("Bearer {access_token}"));
        let mut bearer = bearer.map_err(|_| failed("the access token fits into no header".to_owned()))?;
        bearer.set_sensitive(true);
        let answer = self.client.call(call.header(AUTHORIZATION, bearer)).await;
        let answer = answer.map_err(|failure| failed(failure.to_string()))?;
        if answer.status != StatusCode::OK {
            return Err(failed(format!("status {}", answer.status.as_u16())));
        }
        serde_json::from_slice(&answer.body).map_err(|_| failed("it is no JSON".to_owned()))
    }
}

/// How a token that was found good is signed.
fn algorithm(token: &str) -> Option<String> {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    header["alg"].as_str().map(str::to_owned)
}

/// Adds what userinfo says of the same subject (OpenID Connect Core section 5.3.2). What was signed
/// has the last word.
fn add(claims: &mut Value, more: Value) -> Result<(), Failed> {
    let other = || Failed::new("userinfo_other_subject", "userinfo speaks of somebody else");
    let (Value::Object(claims), Value::Object(more)) = (claims, more) else { return Err(other()) };
    if more.get("sub") != claims.get("sub") {
        return Err(other());
    }
    for (name, value) in more {
        claims.entry(name).or_insert(value);
    }
    Ok(())
}

async fn fetch(issuer: &str, client: &Client, known: &Known) -> Asked {
    let address = metadata::address(issuer).ok_or("the issuer is no address of a service")?;
    let answer = client.call(Call::get(address)).await.map_err(|failure| failure.to_string())?;
    if answer.status != StatusCode::OK {
        return Err(format!("status {}", answer.status.as_u16()));
    }
    let metadata = Arc::new(Metadata::parse(issuer, &answer.body)?);
    known.metadata.store(Some(Arc::clone(&metadata)));
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn userinfo_adds_and_never_replaces() {
        let mut claims = json!({ "sub": "ann", "email": "signed" });
        add(&mut claims, json!({ "sub": "ann", "email": "other", "name": "Ann" })).unwrap();
        assert_eq!(claims, json!({ "sub": "ann", "email": "signed", "name": "Ann" }));
        for more in [json!({ "sub": "bob" }), json!({}), json!([]), json!("jwt")] {
            assert_eq!(add(&mut claims, more).unwrap_err().cause, "userinfo_other_subject");
        }
    }
}

//! What the upstream is shown to know the gateway by, or the caller by way of the gateway: a header field,
//! a token of the gateway's own, or one in exchange for the caller's.

use super::context::{HeaderEdit, PolicyContext};
use super::{CompileEnv, Policy, Step, Verdict};
use crate::identity::accounts::{Account, Denied, Token, TokenClient};
use crate::identity::presented::Presented;
use crate::identity::{Method, Provider};
use crate::rejection::Rejection;
use crate::values::{ConfigPath, Finding, Name, Problem};
use http::header::{AUTHORIZATION, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// What the upstream is shown: an account of the gateway's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamAuthConfig {
    /// The account's name in `identity.accounts`.
    pub account: Name,
}

/// There is no token for the upstream.
pub const UNAVAILABLE: &str = "upstream_auth_unavailable";

/// The caller's token cannot be exchanged for one for the upstream.
pub const REFUSED: &str = "token_exchange_refused";

/// [`UpstreamAuthConfig`], compiled.
#[derive(Debug)]
pub struct UpstreamAuth {
    account: Account,
    /// Where callers' tokens are, by their providers' names.
    providers: HashMap<Name, Provider>,
}

impl Policy for UpstreamAuth {
    const NAME: &'static str = "upstream_auth";
    type Config = UpstreamAuthConfig;

    fn compile(config: &UpstreamAuthConfig, env: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        let identity = &env.identity;
        match identity.account(&config.account) {
            Some(account) => Ok(Self { account: account.clone(), providers: identity.providers().clone() }),
            None if identity.has_mistakes(&config.account) => Err(Vec::new()),
            None => {
                let names = identity.account_names();
                let problem = Problem::unknown("account", config.account.as_str(), names);
                Err(vec![Finding::error(ConfigPath::root().key("account"), problem)])
            }
        }
    }

    fn on_request<'a>(&'a self, head: &'a RequestHeader, cx: &'a mut PolicyContext) -> Step<'a> {
        match &self.account {
            Account::Header(name, value) => {
                set(cx, name.clone(), value.clone());
                Step::Continue
            }
            Account::Own(client) => match client.own(Instant::now()) {
                Some(token) => {
                    show(cx, &token);
                    Step::Continue
                }
                None => Step::Wait(Box::pin(async move {
                    match client.wait_for_own().await {
                        Ok(token) => show(cx, &token),
                        Err(denied) => return Verdict::Reject(Box::new(unavailable(&denied))),
                    }
                    Verdict::Continue
                })),
            },
            Account::Exchange(client) => self.exchange(client, head, cx),
        }
    }
}

impl UpstreamAuth {
    fn exchange<'a>(
        &'a self,
        client: &'a TokenClient,
        head: &'a RequestHeader,
        cx: &'a mut PolicyContext,
    ) -> Step<'a> {
        let Some(subject) = self.subject(head, cx) else {
            let rejection = Rejection::new(StatusCode::FORBIDDEN, REFUSED, "A bearer token is needed here")
                .detail("the caller was not let in by a token that can be exchanged");
            return Step::reject(rejection);
        };
        match client.exchanged(&subject, Instant::now()) {
            Some(Ok(token)) => {
                show(cx, &token);
                Step::Continue
            }
            Some(Err(denied)) => Step::reject(refused(&denied)),
            None => Step::Wait(Box::pin(async move {
                match client.exchange(&subject).await {
                    Ok(token) => show(cx, &token),
                    Err(denied) => return Verdict::Reject(Box::new(refused(&denied))),
                }
                Verdict::Continue
            })),
        }
    }

    /// The token that the caller was let in by: never one that nobody has looked at.
    fn subject<'h>(&self, head: &'h RequestHeader, cx: &PolicyContext) -> Option<std::borrow::Cow<'h, str>> {
        let principal = cx.principal.as_ref()?;
        if !matches!(principal.method, Method::Jwt | Method::Introspection) {
            return None;
        }
        let places = match self.providers.get(principal.provider.as_deref()?)? {
            Provider::Jwt(jwt) => jwt.places(),
            Provider::Introspection(introspection) => introspection.places(),
            Provider::Oidc(_) | Provider::Forward(_) => return None,
        };
        match places.find(head) {
            Presented::Token(token) => Some(token),
            Presented::Nothing | Presented::Ambiguous => None,
        }
    }
}

fn show(cx: &mut PolicyContext, token: &Arc<Token>) {
    set(cx, AUTHORIZATION, token.value.clone());
}

fn set(cx: &mut PolicyContext, name: HeaderName, value: HeaderValue) {
    cx.edits.headers.push(HeaderEdit::Set(name, value));
}

fn unavailable(denied: &Denied) -> Rejection {
    Rejection::new(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, "The service cannot be reached now")
        .detail(format!("no token for the upstream: {denied}"))
        .header(RETRY_AFTER, HeaderValue::from_static("5"))
}

fn refused(denied: &Denied) -> Rejection {
    match denied {
        Denied::Failed(_) => unavailable(denied),
        Denied::Refused(_) => {
            Rejection::new(StatusCode::FORBIDDEN, REFUSED, "The token is not accepted for this service")
                .detail(format!("no token for the upstream: {denied}"))
        }
    }
}

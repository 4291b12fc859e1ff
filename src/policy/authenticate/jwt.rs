//! Signed tokens (RFC 7519), presented as RFC 6750 has it.

use super::bearer::{ambiguous, now, refusal};
use super::{Attempt, Outcome};
use crate::identity::jwt::{Checked, Jwt};
use crate::identity::presented::Presented;
use crate::policy::context::PolicyContext;
use pingora_http::RequestHeader;

pub(super) fn attempt<'a>(provider: &'a Jwt, head: &RequestHeader, cx: &PolicyContext) -> Attempt<'a> {
    let token = match provider.places().find(head) {
        Presented::Nothing => return Attempt::Absent,
        Presented::Token(token) => token,
        Presented::Ambiguous => return Attempt::Refused(ambiguous()),
    };
    match provider.check(&token, now()) {
        Checked::Admitted(principal) => Attempt::Admitted(principal.into()),
        Checked::Refused(refused) if refused.cause.is_of_another() => Attempt::Another(refusal(refused)),
        Checked::Refused(refused) => Attempt::Refused(refusal(refused)),
        Checked::KeyMissing(pending) => {
            let client = cx.client;
            Attempt::Wait(Box::pin(async move {
                match provider.wait(pending, client, now).await {
                    Ok(principal) => Outcome::Admitted(principal.into()),
                    Err(refused) => Outcome::Refused(refusal(refused)),
                }
            }))
        }
    }
}

//! Tokens whose meaning a server tells (RFC 7662), presented as RFC 6750 has it.

use super::bearer::{ambiguous, now, refusal};
use super::{Attempt, Outcome};
use crate::identity::introspection::{Introspection, Looked};
use crate::identity::presented::Presented;
use crate::policy::context::PolicyContext;
use pingora_http::RequestHeader;
use std::time::Instant;

pub(super) fn attempt<'a>(
    provider: &'a Introspection,
    head: &'a RequestHeader,
    cx: &PolicyContext,
) -> Attempt<'a> {
    let token = match provider.places().find(head) {
        Presented::Nothing => return Attempt::Absent,
        Presented::Token(token) => token,
        Presented::Ambiguous => return Attempt::Refused(ambiguous()),
    };
    match provider.look(token, cx.client, (Instant::now(), now)) {
        Looked::Known(Ok(principal)) => Attempt::Admitted(principal.into()),
        Looked::Known(Err(refused)) => Attempt::Refused(refusal(refused)),
        Looked::Ask(answer) => Attempt::Wait(Box::pin(async move {
            match answer.await {
                Ok(principal) => Outcome::Admitted(principal.into()),
                Err(refused) => Outcome::Refused(refusal(refused)),
            }
        })),
    }
}

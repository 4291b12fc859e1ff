//! What is revoked, and what an operator revokes.

use super::{Answer, as_json, problem};
use crate::identity::revocations::{NotTaken, Revocations, Taken};
use crate::runtime::Snapshot;
use http::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;

/// How long an answer waits until a change is on disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// A page of those that hold; `query` may say `after=ID`.
pub(super) fn list(snapshot: &Snapshot, query: Option<&str>) -> Answer {
    let after = query.and_then(|query| query.strip_prefix("after="));
    match after.map(str::parse).transpose() {
        Ok(after) => as_json(StatusCode::OK, &snapshot.identity.revocations().list(after)),
        Err(()) => problem(StatusCode::BAD_REQUEST, "`after` is the id of a revocation"),
    }
}

pub(super) async fn revoke(snapshot: &Snapshot, body: &[u8]) -> Answer {
    let revocations = snapshot.identity.revocations();
    match revocations.revoke(body) {
        Ok(taken) => {
            log::warn!("revoked by an admin id={}", taken.written["id"]);
            told(revocations, taken, StatusCode::CREATED).await
        }
        Err(NotTaken::Wrong(wrong)) => problem(StatusCode::BAD_REQUEST, &wrong.to_string()),
        Err(NotTaken::Full(most)) => problem(
            StatusCode::INSUFFICIENT_STORAGE,
            &format!(
                "there are {most} revocations already: take some back, or raise `identity.revocations.most`"
            ),
        ),
    }
}

pub(super) async fn withdraw(snapshot: &Snapshot, id: &str) -> Answer {
    let revocations = snapshot.identity.revocations();
    let Some(taken) = id.parse().ok().and_then(|id| revocations.withdraw(id)) else {
        return problem(StatusCode::NOT_FOUND, "there is no such revocation");
    };
    log::warn!("revocation taken back by an admin id={id}");
    told(revocations, taken, StatusCode::OK).await
}

/// A revocation as it is written, with whether it is on disk.
async fn told(revocations: &Revocations, taken: Taken, status: StatusCode) -> Answer {
    let saved = revocations.saved(&taken, PATIENCE).await;
    let mut written = taken.written;
    if let Value::Object(fields) = &mut written {
        fields.insert("saved".to_owned(), json!(saved));
    }
    as_json(status, &written)
}

//! What an ID token has to say beyond what every token does (OpenID Connect Core 1.0, sections
//! 3.1.3.7 and 12.2). Its signature, issuer and times are checked where tokens are.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use subtle::ConstantTimeEq as _;

/// The longest subject (OpenID Connect Core section 2).
const LONGEST_SUBJECT: usize = 255;

/// What an ID token is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Whom it is for.
    pub client_id: &'a str,
    /// The nonce of the login; a refreshed token may leave it out.
    pub nonce: &'a str,
    /// Whose it has to be: none at a login, the session's at a refresh.
    pub subject: Option<&'a str>,
    /// The access token that came with it.
    pub access_token: &'a str,
}

/// Checks the claims of an ID token that was signed by this algorithm.
///
/// # Errors
/// A stable word for what is wrong.
pub fn check(claims: &Value, algorithm: &str, expected: &Expected<'_>) -> Result<(), &'static str> {
    let subject = claims["sub"].as_str().filter(|sub| (1..=LONGEST_SUBJECT).contains(&sub.len()));
    let subject = subject.ok_or("id_token_subject")?;
    if expected.subject.is_some_and(|known| known != subject) {
        return Err("id_token_other_subject");
    }
    if !is_for(claims, expected.client_id) {
        return Err("id_token_audience");
    }
    match claims.get("nonce") {
        None if expected.subject.is_some() => {}
        Some(Value::String(nonce)) if same(nonce, expected.nonce) => {}
        _ => return Err("id_token_nonce"),
    }
    match claims.get("at_hash") {
        None => Ok(()),
        Some(Value::String(hash))
            if half_hash(algorithm, expected.access_token).is_some_and(|ours| same(hash, &ours)) =>
        {
            Ok(())
        }
        Some(_) => Err("id_token_at_hash"),
    }
}

/// The audience holds the client, and where it holds others too, the client is who asked for it.
fn is_for(claims: &Value, client_id: &str) -> bool {
    let others = match &claims["aud"] {
        Value::String(audience) if audience == client_id => false,
        Value::Array(list) if list.iter().any(|audience| audience == client_id) => list.len() > 1,
        _ => return false,
    };
    match claims.get("azp") {
        Some(party) => party == client_id,
        None => !others,
    }
}

/// The left half of the hash that belongs to a signature's algorithm (section 3.1.3.6).
fn half_hash(algorithm: &str, token: &str) -> Option<String> {
    let hash = match algorithm {
        "EdDSA" | "Ed25519" => &digest::SHA512,
        name if name.ends_with("256") => &digest::SHA256,
        name if name.ends_with("384") => &digest::SHA384,
        name if name.ends_with("512") => &digest::SHA512,
        _ => return None,
    };
    let hash = digest::digest(hash, token.as_bytes());
    Some(URL_SAFE_NO_PAD.encode(&hash.as_ref()[..hash.as_ref().len() / 2]))
}

fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check_with(change: &[(&str, Value)], subject: Option<&str>) -> Result<(), &'static str> {
        let mut claims = json!({ "sub": "ann", "aud": "us", "nonce": "n" });
        for (name, value) in change {
            claims[name] = value.clone();
            if value == &json!("absent") {
                claims.as_object_mut().unwrap().remove(*name);
            }
        }
        let access_token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
        check(&claims, "RS256", &Expected { client_id: "us", nonce: "n", subject, access_token })
    }

    #[test]
    fn claims_of_a_login() {
        for (change, expected) in [
            (&[][..], Ok(())),
            // OpenID Connect Core, appendix A.3.
            (&[("at_hash", json!("77QmUPtjPfzWtF2AnpK9RQ"))], Ok(())),
            (&[("at_hash", json!("77QmUPtjPfzWtF2AnpK9RA"))], Err("id_token_at_hash")),
            (&[("at_hash", json!(7))], Err("id_token_at_hash")),
            (&[("aud", json!(["us"]))], Ok(())),
            (&[("aud", json!(["us", "them"]))], Err("id_token_audience")),
            (&[("aud", json!(["us", "them"])), ("azp", json!("us"))], Ok(())),
            (&[("aud", json!(["us", "them"])), ("azp", json!("them"))], Err("id_token_audience")),
            (&[("azp", json!("them"))], Err("id_token_audience")),
            (&[("azp", Value::Null)], Err("id_token_audience")),
            (&[("aud", json!("them"))], Err("id_token_audience")),
            (&[("aud", json!([]))], Err("id_token_audience")),
            (&[("aud", json!({ "us": 1 }))], Err("id_token_audience")),
            (&[("aud", json!("absent"))], Err("id_token_audience")),
            (&[("nonce", json!("m"))], Err("id_token_nonce")),
            (&[("nonce", json!(null))], Err("id_token_nonce")),
            (&[("nonce", json!("absent"))], Err("id_token_nonce")),
            (&[("sub", json!("absent"))], Err("id_token_subject")),
            (&[("sub", json!(""))], Err("id_token_subject")),
            (&[("sub", json!(7))], Err("id_token_subject")),
            (&[("sub", json!("a".repeat(256)))], Err("id_token_subject")),
        ] {
            assert_eq!(check_with(change, None), expected, "{change:?}");
        }
    }

    #[test]
    fn claims_of_a_refresh() {
        for (change, expected) in [
            (&[][..], Ok(())),
            (&[("nonce", json!("absent"))], Ok(())),
            (&[("nonce", json!("m"))], Err("id_token_nonce")),
            (&[("sub", json!("bob"))], Err("id_token_other_subject")),
        ] {
            assert_eq!(check_with(change, Some("ann")), expected, "{change:?}");
        }
    }

    #[test]
    fn hashes_go_with_their_algorithms() {
        for (algorithm, length) in [
            ("ES256", Some(22)),
            ("PS384", Some(32)),
            ("HS512", Some(43)),
            ("EdDSA", Some(43)),
            ("none", None),
        ] {
            assert_eq!(half_hash(algorithm, "a").map(|hash| hash.len()), length, "{algorithm}");
        }
    }
}

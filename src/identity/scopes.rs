//! What a token may be used for.

use serde_json::{Map, Value};

/// The scopes in claims: `scope` as text (RFC 8693, section 4.2), or, as other issuers have it, `scope`,
/// `scp` or `scopes` as a text or a list. The first of them that is there counts.
pub fn of(claims: &Map<String, Value>) -> Box<[Box<str>]> {
    let claim = ["scope", "scp", "scopes"].into_iter().find_map(|name| claims.get(name));
    match claim {
        Some(Value::String(text)) => text.split_ascii_whitespace().map(Into::into).collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(Into::into).collect(),
        _ => Box::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_as_issuers_write_them() {
        for (claims, scopes) in [
            (r#"{}"#, ""),
            (r#"{"scope":"a b  c"}"#, "a b c"),
            (r#"{"scope":["a","b"]}"#, "a b"),
            (r#"{"scp":["a"]}"#, "a"),
            (r#"{"scp":"a b"}"#, "a b"),
            (r#"{"scopes":["a",7]}"#, "a"),
            (r#"{"scope":"a","scp":["b"]}"#, "a"),
            (r#"{"scope":7}"#, ""),
        ] {
            let claims = serde_json::from_str(claims).unwrap();
            assert_eq!(of(&claims).join(" "), scopes, "{claims:?}");
        }
    }
}

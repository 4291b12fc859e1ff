//! What a provider says of tokens that count, and of settings that do not.

use super::*;

#[test]
fn what_is_known_of_a_caller() {
    let signer = Signer::new(Algorithm::ES256);
    let provider = trusting(&signer, Algorithm::ES256, Some("k"), &json!({}));
    let token = signer.token(Algorithm::ES256, Some("k"), &claims_with(&json!({ "iat": NOW - 5 })));
    let principal = verdict(&provider, &token).unwrap();
    assert_eq!((&*principal.subject, principal.provider.as_deref()), ("alice", Some("main")));
    assert_eq!(principal.scopes.join(" "), "a b");
    assert_eq!(principal.token_id.as_deref(), Some("7"));
    assert_eq!((principal.issued_at, principal.expires_at), (Some(NOW - 5), Some(NOW + 60)));
    assert_eq!(principal.claims["iss"], ISSUER);
    assert!(Arc::ptr_eq(&principal, &verdict(&provider, &token).unwrap()), "it is the same again");
}

#[test]
fn a_key_is_found_by_more_than_its_name() {
    let (one, two) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::ES256));
    let rsa = Signer::new(Algorithm::RS256);
    // The same name twice, a key of another kind between, and one without a name.
    let keys = json!({ "inline": [one.jwk(Some("k")), rsa.jwk(Some("k")), two.jwk(Some("k"))] });
    let provider = provider(&json!({ "algorithms": ["ES256", "RS256"], "keys": keys })).unwrap();
    for (signer, algorithm) in [(&one, Algorithm::ES256), (&two, Algorithm::ES256), (&rsa, Algorithm::RS256)]
    {
        for kid in [Some("k"), None] {
            assert!(
                verdict(&provider, &signer.token(algorithm, kid, &claims())).is_ok(),
                "{algorithm:?} {kid:?}"
            );
        }
        assert_eq!(
            verdict(&provider, &signer.token(algorithm, Some("x"), &claims())).unwrap_err(),
            Cause::UnknownKey
        );
    }
    let unnamed = trusting(&one, Algorithm::ES256, None, &json!({}));
    assert!(verdict(&unnamed, &one.token(Algorithm::ES256, Some("any"), &claims())).is_ok());
}

#[test]
fn audiences_types_and_required_claims() {
    let signer = Signer::new(Algorithm::ES256);
    let token = |header: &str, others: Value| {
        signer.token_of(Algorithm::ES256, header, &claims_with(&others).to_string())
    };
    let plain = r#"{"alg":"ES256"}"#;
    for (settings, header, others, cause) in [
        (json!({ "audiences": ["x", "y"] }), plain, json!({ "aud": ["a", "y"] }), None),
        (json!({ "audiences": ["x", "y"] }), plain, json!({ "aud": "x" }), None),
        (json!({ "audiences": ["x", "y"] }), plain, json!({ "aud": ["a"] }), Some(Cause::WrongAudience)),
        (json!({ "audiences": "any" }), plain, json!({ "aud": "whoever" }), None),
        (json!({ "type": "at+jwt" }), r#"{"alg":"ES256","typ":"at+jwt"}"#, json!({}), None),
        (json!({ "type": "at+jwt" }), r#"{"alg":"ES256","typ":"application/AT+JWT"}"#, json!({}), None),
        (json!({ "type": "application/at+jwt" }), r#"{"alg":"ES256","typ":"at+jwt"}"#, json!({}), None),
        (json!({ "type": "at+jwt" }), r#"{"alg":"ES256","typ":"JWT"}"#, json!({}), Some(Cause::WrongType)),
        (json!({ "type": "at+jwt" }), plain, json!({}), Some(Cause::WrongType)),
        (json!({ "required": ["tenant"] }), plain, json!({ "tenant": "a" }), None),
        (json!({ "required": ["tenant"] }), plain, json!({}), Some(Cause::ClaimMissing)),
        (json!({ "required": ["tenant"] }), plain, json!({ "tenant": null }), Some(Cause::ClaimMissing)),
    ] {
        let provider = trusting(&signer, Algorithm::ES256, None, &settings);
        let token = token(header, others.clone());
        assert_eq!(verdict(&provider, &token).err(), cause, "{settings} {header} {others}");
    }
    let mut endless = claims();
    endless.as_object_mut().unwrap().remove("exp");
    let endless = signer.token(Algorithm::ES256, None, &endless);
    let by = |settings| verdict(&trusting(&signer, Algorithm::ES256, None, &settings), &endless).err();
    assert_eq!(by(json!({})), Some(Cause::ClaimMissing));
    assert_eq!(by(json!({ "required": ["sub"] })), None);
}

#[test]
fn settings_that_make_no_sense_are_told() {
    let jwk = Signer::new(Algorithm::ES256).jwk(None);
    for (settings, path) in [
        (json!({ "issuer": "", "keys": { "inline": [jwk] } }), "issuer: "),
        (json!({ "issuer": "accounts" }), "issuer: "),
        (json!({ "issuer": "http://id.example.com" }), "issuer: "),
        (json!({ "algorithms": [], "keys": { "inline": [jwk] } }), "algorithms: "),
        (json!({ "algorithms": ["ES256", "HS256"], "keys": { "inline": [jwk] } }), "algorithms: "),
        (json!({ "algorithms": ["HS256"] }), "algorithms: "),
        (
            json!({ "algorithms": ["HS256"], "keys": { "url": "https://id.example.com/keys" } }),
            "algorithms: ",
        ),
        (json!({ "algorithms": ["ES256"], "keys": { "secret": "s".repeat(32) } }), "algorithms: "),
        (json!({ "algorithms": ["HS256"], "keys": { "secret": "s".repeat(31) } }), "keys.secret: "),
        (json!({ "algorithms": ["HS512"], "keys": { "secret": "s".repeat(63) } }), "keys.secret: "),
        (json!({ "algorithms": ["RS256"], "keys": { "inline": [jwk] } }), "keys: "),
        (json!({ "keys": { "inline": [] } }), "keys.inline: "),
        (json!({ "keys": { "inline": [{ "kty": "XX" }] } }), "keys.inline: "),
        (json!({ "leeway": "11m", "keys": { "inline": [jwk] } }), "leeway: "),
        (json!({ "max_age": "0s", "keys": { "inline": [jwk] } }), "max_age: "),
        (json!({ "max_size": "0B", "keys": { "inline": [jwk] } }), "max_size: "),
        (json!({ "max_size": "65KiB", "keys": { "inline": [jwk] } }), "max_size: "),
        (json!({ "fetch": { "every": "0s" } }), "fetch.every: "),
        (json!({ "fetch": { "call": { "ca": "/nowhere/ca.pem" } } }), "fetch.call.ca: "),
        (json!({ "from": [] , "keys": { "inline": [jwk] } }), "from: "),
        (json!({ "from": ["bearer", { "cookie": "a b" }], "keys": { "inline": [jwk] } }), "from[1]: "),
    ] {
        let report = provider(&settings).unwrap_err();
        assert!(report.starts_with(path) && !report.contains('\n'), "{settings}: {report}");
    }
    assert!(provider(&json!({ "algorithms": ["HS256"], "keys": { "secret": "s".repeat(32) } })).is_ok());
}

#[test]
fn the_cache_is_bounded() {
    let cache = TokenCache::new(200_000);
    let signer = Signer::new(Algorithm::HS256);
    let (retained, outbound) = (Retained::default(), Outbound::default());
    let (tokens, consumers) = (Arc::new(cache), Arc::<Consumers>::default());
    let building =
        Building { retained: &retained, outbound: &outbound, tokens: &tokens, consumers: &consumers };
    let settings = json!({ "algorithms": ["HS256"], "keys": { "inline": [signer.jwk(None)] } });
    let (provider, _) = Jwt::compile("main", &config(&settings), &building).unwrap();
    for number in 0..1000 {
        let token = signer.token(Algorithm::HS256, None, &claims_with(&json!({ "jti": number.to_string() })));
        assert!(verdict(&provider, &token).is_ok());
    }
    assert!((10..=200).contains(&tokens.len()), "{}", tokens.len());
    tokens.resize(20_000);
    assert!(tokens.len() < 20, "{}", tokens.len());
}

//! Tokens that somebody made to get in. Each is refused, and for its own reason.

use super::signer::{Signer, base64url};
use super::*;
use proptest::prelude::*;
use std::sync::LazyLock;

/// A provider, its signer, and a token of theirs that counts.
struct Scene {
    signer: Signer,
    provider: Jwt,
    token: String,
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let signer = Signer::new(Algorithm::ES256);
    let provider = trusting(&signer, Algorithm::ES256, Some("k"), &json!({}));
    let token = signer.token(Algorithm::ES256, Some("k"), &claims());
    Scene { signer, provider, token }
});

fn refused(token: &str) -> Cause {
    verdict(&SCENE.provider, token).expect_err(token)
}

/// A token with this header and these claims, well signed.
fn signed(header: &str, claims: &str) -> String {
    SCENE.signer.token_of(Algorithm::ES256, header, claims)
}

const HEADER: &str = r#"{"alg":"ES256","kid":"k"}"#;

#[test]
fn the_scene_is_set() {
    assert_eq!(&*verdict(&SCENE.provider, &SCENE.token).unwrap().subject, "alice");
    assert!(verdict(&SCENE.provider, &signed(HEADER, &claims().to_string())).is_ok());
}

#[test]
fn no_algorithm_in_any_spelling() {
    let claims = base64url(claims().to_string());
    for name in ["none", "None", "NONE", "nOnE", "", " none", "none\0", "ES256none", "null"] {
        let header = base64url(json!({ "alg": name, "kid": "k" }).to_string());
        for signature in ["", "AAAA", SCENE.token.rsplit('.').next().unwrap()] {
            let cause = refused(&format!("{header}.{claims}.{signature}"));
            let expected = if signature.is_empty() { Cause::Unsigned } else { Cause::AlgorithmNotAllowed };
            assert_eq!(cause, expected, "{name:?}");
        }
    }
    for header in [r#"{"alg":null}"#, r#"{"alg":["ES256"]}"#, r#"{"alg":256}"#, r#"{}"#, r#"{"Alg":"ES256"}"#]
    {
        assert_eq!(refused(&signed(header, &super::claims().to_string())), Cause::Malformed, "{header}");
    }
    for name in ["es256", "ES256 ", "ES384", "HS256", "RS256", "ES256K", "dir"] {
        let header = json!({ "alg": name, "kid": "k" }).to_string();
        assert_eq!(refused(&signed(&header, &super::claims().to_string())), Cause::AlgorithmNotAllowed);
    }
}

/// The public key taken for a secret, in every form in which somebody may have it.
#[test]
fn the_public_key_is_no_secret() {
    for algorithm in [Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA] {
        let signer = Signer::new(algorithm);
        let provider = trusting(&signer, algorithm, Some("k"), &json!({}));
        let der = signer.public();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &der)
        );
        let jwk = signer.jwk(Some("k")).to_string();
        for secret in [der.clone(), pem.into_bytes(), jwk.into_bytes()] {
            for forged in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let token = Signer::Secret(secret.clone()).token(forged, Some("k"), &claims());
                assert_eq!(verdict(&provider, &token).unwrap_err(), Cause::AlgorithmNotAllowed);
                // And the same under the name that is allowed.
                let header = json!({ "alg": algorithm.name(), "kid": "k" }).to_string();
                let token = Signer::Secret(secret.clone()).token_of(forged, &header, &claims().to_string());
                assert_eq!(verdict(&provider, &token).unwrap_err(), Cause::BadSignature);
            }
        }
    }
}

#[test]
fn names_of_keys_are_only_compared() {
    for kid in [
        "../../../../dev/null",
        "/dev/null",
        "k' OR '1'='1",
        "k\"; DROP TABLE keys; --",
        "k\0",
        "k\0.pem",
        "K",
        "k ",
        "",
        "https://attacker.example.com/keys",
        &"k".repeat(4000),
    ] {
        let token = SCENE.signer.token(Algorithm::ES256, Some(kid), &claims());
        assert_eq!(refused(&token), Cause::UnknownKey, "{kid:?}");
    }
    for kid in ["null", "7", "[\"k\"]", "{}"] {
        let header = format!(r#"{{"alg":"ES256","kid":{kid}}}"#);
        assert_eq!(refused(&signed(&header, &claims().to_string())), Cause::Malformed, "{kid}");
    }
}

/// A key in the token, or an address of one, is the attacker's.
#[test]
fn no_key_is_taken_from_the_token() {
    let attacker = Signer::new(Algorithm::ES256);
    for kid in [Some("k"), Some("other"), None] {
        for (name, value) in [
            ("jwk", attacker.jwk(kid)),
            ("jku", json!("https://attacker.example.com/keys")),
            ("x5u", json!("https://attacker.example.com/certificate")),
            ("x5c", json!([base64url(attacker.public())])),
        ] {
            let mut header = json!({ "alg": "ES256", name: value });
            if let Some(kid) = kid {
                header["kid"] = kid.into();
            }
            let token = attacker.token_of(Algorithm::ES256, &header.to_string(), &claims().to_string());
            let expected = if kid == Some("other") { Cause::UnknownKey } else { Cause::BadSignature };
            assert_eq!(refused(&token), expected, "{header}");
        }
    }
}

#[test]
fn what_must_be_understood_is_not() {
    for header in [
        r#"{"alg":"ES256","kid":"k","crit":["exp"],"exp":1}"#,
        r#"{"alg":"ES256","kid":"k","crit":["b64"],"b64":false}"#,
        r#"{"alg":"ES256","kid":"k","crit":[]}"#,
        r#"{"alg":"ES256","kid":"k","crit":null}"#,
    ] {
        assert_eq!(refused(&signed(header, &claims().to_string())), Cause::Critical, "{header}");
    }
    for member in [r#""b64":false"#, r#""zip":"DEF""#, r#""enc":"A128GCM""#] {
        let header = format!(r#"{{"alg":"ES256","kid":"k",{member}}}"#);
        assert_eq!(refused(&signed(&header, &claims().to_string())), Cause::Malformed, "{header}");
    }
}

#[test]
fn members_that_are_there_twice() {
    let twice = |text: &str, member: &str| format!("{{{member},{}", &text[1..]);
    let claims = claims().to_string();
    for header in [
        twice(HEADER, r#""alg":"none""#),
        twice(HEADER, r#""kid":"x""#),
        twice(HEADER, r#""\u0061lg":"ES256""#),
    ] {
        assert_eq!(refused(&signed(&header, &claims)), Cause::Malformed, "{header}");
    }
    for member in [r#""sub":"root""#, r#""exp":9999999999"#, r#""iss":"x""#, r#""a":{"b":1,"b":2}"#] {
        assert_eq!(refused(&signed(HEADER, &twice(&claims, member))), Cause::Malformed, "{member}");
    }
}

#[test]
fn signatures_that_are_none() {
    let (unsigned, good) = SCENE.token.rsplit_once('.').unwrap();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, good).unwrap();
    let (r, s) = bytes.split_at(32);
    // The order of P-256.
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
        0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let zero = [0; 32];
    let other = SCENE.signer.token(Algorithm::ES256, Some("k"), &claims_with(&json!({ "sub": "bob" })));
    let others = base64::Engine::decode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        other.rsplit('.').next().unwrap(),
    )
    .unwrap();
    for (what, signature) in [
        ("r = s = 0", [zero, zero].concat()),
        ("r = 0", [&zero, s].concat()),
        ("s = 0", [r, &zero].concat()),
        ("r = s = n", [order, order].concat()),
        ("s = n", [r, &order].concat()),
        ("swapped", [s, r].concat()),
        ("cut", bytes[..63].to_vec()),
        ("half", r.to_vec()),
        ("a byte more", [&bytes[..], &[0]].concat()),
        ("twice", [&bytes[..], &bytes[..]].concat()),
        ("one byte", vec![0]),
        ("DER", vec![0x30, 0x06, 0x02, 0x01, 0x00, 0x02, 0x01, 0x00]),
        ("another token's", others),
    ] {
        assert_eq!(refused(&format!("{unsigned}.{}", base64url(signature))), Cause::BadSignature, "{what}");
    }
    assert_eq!(refused(&format!("{unsigned}.")), Cause::Unsigned);
    assert_eq!(refused(unsigned), Cause::NotAToken);
}

/// A key of one curve, a signature of another.
#[test]
fn wrong_curves() {
    let wrong = Signer::new(Algorithm::ES384);
    let token = wrong.token_of(Algorithm::ES384, HEADER, &claims().to_string());
    assert_eq!(refused(&token), Cause::BadSignature);
    let settings = json!({ "algorithms": ["ES256"], "keys": { "inline": [wrong.jwk(Some("k"))] } });
    let report = provider(&settings).unwrap_err();
    assert!(report.contains("no key here is for ES256"), "{report}");
}

#[test]
fn texts_that_only_look_like_the_token() {
    let token = &SCENE.token;
    let (header, rest) = token.split_once('.').unwrap();
    let (payload, signature) = rest.split_once('.').unwrap();
    for other in [
        format!("{token}="),
        format!("{token}=="),
        format!("{token}."),
        format!("{token}.{signature}"),
        format!("{token}A"),
        format!("{token}AAAA"),
        format!("{token}\n"),
        format!(" {token}"),
        format!("{token}\0"),
        format!(".{token}"),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        format!("{payload}.{header}.{signature}"),
        format!("{header}.{payload}{signature}"),
        token[..token.len() - 1].to_owned(),
        token[1..].to_owned(),
        token.replace('.', "%2E"),
        token.to_lowercase(),
        json!({ "protected": header, "payload": payload, "signature": signature }).to_string(),
        json!({ "payload": payload, "signatures": [{ "protected": header, "signature": signature }] })
            .to_string(),
        base64url(token),
    ] {
        assert!(verdict(&SCENE.provider, &other).is_err(), "{other}");
    }
}

/// The last character of a part has bits that do not count; they have to be zero.
#[test]
fn bits_that_do_not_count_are_zero() {
    // 64 bytes are 86 characters, of which the last one has four such bits.
    let (unsigned, signature) = SCENE.token.rsplit_once('.').unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (start, last) = signature.split_at(signature.len() - 1);
    for other in alphabet.chars().filter(|other| !last.contains(*other)) {
        assert!(verdict(&SCENE.provider, &format!("{unsigned}.{start}{other}")).is_err(), "{other}");
    }
}

#[test]
fn claims_of_wrong_types() {
    for (name, values) in [
        ("exp", &["null", "\"1800000060\"", "true", "[1800000060]", "{}"][..]),
        ("nbf", &["null", "\"0\"", "false", "[]"]),
        ("iat", &["null", "\"1799999999\"", "{}", "true"]),
        ("iss", &["null", "7", "[\"https://id.example.com\"]", "{}"]),
        ("aud", &["null", "7", "{}", "[\"api\",7]", "[[\"api\"]]", "true"]),
        ("sub", &["null", "7", "[\"alice\"]"]),
        ("jti", &["null", "7"]),
    ] {
        for value in values {
            let claims = claims_with(&json!({ name: serde_json::from_str::<Value>(value).unwrap() }));
            assert_eq!(refused(&signed(HEADER, &claims.to_string())), Cause::Malformed, "{name}: {value}");
        }
    }
    for (text, cause) in [
        ("[]", Cause::Malformed),
        ("\"alice\"", Cause::Malformed),
        ("null", Cause::Malformed),
        ("", Cause::Malformed),
        ("{\"exp\":1e999}", Cause::Malformed),
        ("{}", Cause::ClaimMissing),
        ("{\"iss\":\"https://id.example.com\",\"aud\":\"api\"}", Cause::ClaimMissing),
    ] {
        assert_eq!(refused(&signed(HEADER, text)), cause, "{text}");
    }
}

#[test]
fn audiences_and_issuers_are_compared_whole() {
    for audience in
        [json!("API"), json!("api "), json!("api2"), json!("ap"), json!(["x", "y"]), json!([]), json!("")]
    {
        let token =
            SCENE.signer.token(Algorithm::ES256, Some("k"), &claims_with(&json!({ "aud": audience })));
        assert_eq!(refused(&token), Cause::WrongAudience, "{audience}");
    }
    let mut without = claims();
    without.as_object_mut().unwrap().remove("aud");
    assert_eq!(refused(&SCENE.signer.token(Algorithm::ES256, Some("k"), &without)), Cause::WrongAudience);
    for issuer in
        ["https://id.example.com/", "https://ID.example.com", "http://id.example.com", "id.example.com", ""]
    {
        let token = SCENE.signer.token(Algorithm::ES256, Some("k"), &claims_with(&json!({ "iss": issuer })));
        assert_eq!(refused(&token), Cause::WrongIssuer, "{issuer}");
    }
}

/// Two providers of the same keys: a token of the one's is not the other's, cached or not.
#[test]
fn providers_do_not_mix() {
    let signer = Signer::new(Algorithm::ES256);
    let keys = json!({ "inline": [signer.jwk(Some("k"))] });
    let tokens = Arc::new(TokenCache::new(1 << 20));
    let (retained, outbound) = (Retained::default(), Outbound::default());
    let consumers = Arc::<Consumers>::default();
    let compile = |name: &str, settings: Value| {
        let building =
            Building { retained: &retained, outbound: &outbound, tokens: &tokens, consumers: &consumers };
        Jwt::compile(name, &config(&settings), &building).unwrap().0
    };
    let main = compile("main", json!({ "keys": keys }));
    let other_issuer = compile("other", json!({ "keys": keys, "issuer": "https://other.example.com" }));
    let other_audience = compile("admin", json!({ "keys": keys, "audiences": ["admin"] }));
    let stricter = compile("main", json!({ "keys": keys, "required": ["exp", "tenant"] }));
    let twin = compile("main", json!({ "keys": keys }));
    let token = signer.token(Algorithm::ES256, Some("k"), &claims());
    for _ in 0..2 {
        assert!(verdict(&main, &token).is_ok());
        assert_eq!(verdict(&other_issuer, &token).unwrap_err(), Cause::WrongIssuer);
        assert_eq!(verdict(&other_audience, &token).unwrap_err(), Cause::WrongAudience);
        assert_eq!(verdict(&stricter, &token).unwrap_err(), Cause::ClaimMissing);
    }
    let (first, second) = (verdict(&main, &token).unwrap(), verdict(&twin, &token).unwrap());
    assert!(Arc::ptr_eq(&first, &second), "the same provider after a reload remembers");
}

#[test]
fn a_large_token_is_not_read() {
    let provider = trusting(&SCENE.signer, Algorithm::ES256, Some("k"), &json!({ "max_size": "8KiB" }));
    let padded = |length: usize| claims_with(&json!({ "pad": "x".repeat(length) }));
    let large = SCENE.signer.token(Algorithm::ES256, Some("k"), &padded(8000));
    assert_eq!(verdict(&provider, &large).unwrap_err(), Cause::TooLarge);
    assert!(verdict(&provider, &SCENE.signer.token(Algorithm::ES256, Some("k"), &padded(5000))).is_ok());
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(2000), "]".repeat(2000));
    assert_eq!(refused(&signed(HEADER, &deep)), Cause::Malformed);
    let wide = format!("{{{}\"z\":1}}", (0..500).map(|n| format!("\"{n}\":[],")).collect::<String>());
    assert_eq!(refused(&signed(HEADER, &wide)), Cause::ClaimMissing);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// No text but the token itself gets in, however little differs.
    #[test]
    fn no_mutation_of_a_token_gets_in(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..4)
    ) {
        let mut bytes = SCENE.token.clone().into_bytes();
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len());
            let printable = 0x20 + byte % 0x5f;
            match kind {
                0 => bytes[at] = printable,
                1 => bytes.insert(at, printable),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => bytes[at] ^= 1 << (byte % 7),
            }
        }
        if let Ok(text) = String::from_utf8(bytes) && text != SCENE.token {
            prop_assert!(verdict(&SCENE.provider, &text).is_err(), "{}", text);
        }
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,200}", header in "[ -~]{0,80}", claims in "[ -~]{0,120}") {
        prop_assert!(verdict(&SCENE.provider, &text).is_err());
        let _ = verdict(&SCENE.provider, &signed(&header, &claims));
    }
}

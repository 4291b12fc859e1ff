//! Keys of every kind, from every source.

use super::signer::{Signer, base64url};
use super::*;
use crate::identity::keys::{Key, KeySet, Origin};
use base64::Engine as _;

#[test]
fn every_algorithm_with_its_key() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(algorithm);
        let provider = trusting(&signer, algorithm, Some("k"), &json!({}));
        let token = signer.token(algorithm, Some("k"), &claims());
        assert!(verdict(&provider, &token).is_ok(), "{algorithm:?}");
        let unnamed = signer.token(algorithm, None, &claims());
        assert!(verdict(&provider, &unnamed).is_ok(), "{algorithm:?} without a key's name");
        let forged = Signer::new(algorithm).token(algorithm, Some("k"), &claims());
        assert_eq!(verdict(&provider, &forged).unwrap_err(), Cause::BadSignature, "{algorithm:?}");
    }
}

/// Tokens of another library.
#[test]
fn tokens_that_others_sign() {
    use jsonwebtoken::{Algorithm as Theirs, EncodingKey, Header, encode};
    for (ours, theirs) in [
        (Algorithm::ES256, Theirs::ES256),
        (Algorithm::ES384, Theirs::ES384),
        (Algorithm::RS256, Theirs::RS256),
        (Algorithm::RS512, Theirs::RS512),
        (Algorithm::PS384, Theirs::PS384),
        (Algorithm::EdDSA, Theirs::EdDSA),
        (Algorithm::HS256, Theirs::HS256),
        (Algorithm::HS512, Theirs::HS512),
    ] {
        let signer = Signer::new(ours);
        let private = signer.private();
        let key = match ours {
            Algorithm::HS256 | Algorithm::HS512 => EncodingKey::from_secret(&private),
            Algorithm::EdDSA => EncodingKey::from_ed_der(&private),
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_der(&private),
            _ => {
                let text = base64::engine::general_purpose::STANDARD.encode(&private);
                let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
                EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
            }
        };
        let header = Header { kid: Some("k".to_owned()), ..Header::new(theirs) };
        let token = encode(&header, &claims(), &key).unwrap();
        let provider = trusting(&signer, ours, Some("k"), &json!({}));
        assert!(verdict(&provider, &token).is_ok(), "{ours:?}");
    }
}

fn key(jwk: &Value) -> Result<Key, String> {
    Key::from_jwk(jwk.as_object().unwrap(), Origin::Configuration)
}

/// RFC 7515 appendices A.1 and A.3, RFC 8037 appendix A.4.
#[test]
fn the_standards_own_examples() {
    let payload =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    for (algorithm, jwk, signed, signature) in [
        (
            Algorithm::HS256,
            json!({ "kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow" }),
            format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{payload}"),
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            Algorithm::ES256,
            json!({
                "kty": "EC", "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            }),
            format!("eyJhbGciOiJFUzI1NiJ9.{payload}"),
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
        (
            Algorithm::EdDSA,
            json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }),
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc".to_owned(),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
    ] {
        let key = key(&jwk).unwrap();
        let mut signature = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(signature).unwrap();
        assert!(key.verify(algorithm, signed.as_bytes(), &signature), "{algorithm:?}");
        signature[7] ^= 1;
        assert!(!key.verify(algorithm, signed.as_bytes(), &signature), "{algorithm:?}");
    }
}

#[test]
fn keys_that_are_of_no_use() {
    let elliptic = Signer::new(Algorithm::ES256).jwk(Some("k"));
    let rsa = Signer::new(Algorithm::RS256).jwk(Some("k"));
    let with = |jwk: &Value, name: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        jwk
    };
    assert!(key(&elliptic).is_ok() && key(&rsa).is_ok());
    assert!(key(&with(&elliptic, "use", json!("sig"))).is_ok());
    assert!(key(&with(&elliptic, "alg", json!("ES256"))).is_ok());
    assert!(key(&with(&elliptic, "key_ops", json!(["verify"]))).is_ok());
    assert!(key(&with(&elliptic, "x5c", json!(["AAAA"]))).is_ok());
    for jwk in [
        json!({}),
        with(&elliptic, "kty", json!("XX")),
        with(&elliptic, "kty", json!(7)),
        with(&elliptic, "kid", json!(7)),
        with(&elliptic, "kid", json!("k".repeat(257))),
        with(&elliptic, "use", json!("enc")),
        with(&elliptic, "key_ops", json!(["sign"])),
        with(&elliptic, "key_ops", json!("verify")),
        with(&elliptic, "alg", json!("ES384")),
        with(&elliptic, "alg", json!("none")),
        with(&elliptic, "alg", json!("HS256")),
        with(&rsa, "alg", json!("RSA-OAEP")),
        with(&elliptic, "crv", json!("P-384")),
        with(&elliptic, "crv", json!("secp256k1")),
        with(&elliptic, "x", json!("AAAA")),
        with(&elliptic, "x", json!(base64url([1; 32]))),
        with(&elliptic, "y", json!("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU=")),
        with(&elliptic, "d", json!("AAAA")),
        with(&rsa, "e", json!("AQ")),
        with(&rsa, "e", json!("Ag")),
        with(&rsa, "e", json!("")),
        with(&rsa, "e", json!(base64url([1; 9]))),
        with(&rsa, "n", json!(base64url([0xff; 128]))),
        with(&rsa, "n", json!(base64url([0xff; 1025]))),
        with(&rsa, "n", json!("")),
        json!({ "kty": "OKP", "crv": "Ed448", "x": base64url([1; 57]) }),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url([1; 31]) }),
        json!({ "kty": "oct", "k": base64url([1; 31]) }),
        json!({ "kty": "oct" }),
    ] {
        assert!(key(&jwk).is_err(), "{jwk}");
    }
    let secret = json!({ "kty": "oct", "k": base64url([1; 64]) });
    assert!(Key::from_jwk(secret.as_object().unwrap(), Origin::Network).is_err(), "a published secret");
}

#[test]
fn sets_of_keys() {
    let good = Signer::new(Algorithm::ES256).jwk(Some("k"));
    let read = |set: &Value| KeySet::read(set.to_string().as_bytes(), 3, Origin::Network);
    let mixed = read(&json!({ "keys": [good, { "kty": "XX" }, 7], "more": {} })).unwrap();
    assert_eq!((mixed.set.len(), mixed.skipped.len()), (1, 2));
    for set in [
        json!({}),
        json!([good]),
        json!({ "keys": {} }),
        json!({ "keys": [] }),
        json!({ "keys": [7] }),
        json!({ "keys": [good, good, good, good] }),
    ] {
        assert!(read(&set).is_err(), "{set}");
    }
    assert!(KeySet::read(b"<html>", 3, Origin::Network).is_err());
}

#[test]
fn a_key_that_stays_is_the_same_and_one_that_goes_is_withdrawn() {
    let (one, two) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::ES256));
    let set = |jwks: &[Value]| KeySet::of(jwks, 9, Origin::Network).unwrap().set;
    let find = |set: &KeySet, kid: &str| set.candidates(Some(kid), Algorithm::ES256).next().map(Arc::clone);
    let before = set(&[one.jwk(Some("1")), two.jwk(Some("2"))]);
    let (first, second) = (find(&before, "1").unwrap(), find(&before, "2").unwrap());
    let after = set(&[two.jwk(Some("3")), one.jwk(Some("1"))]).succeeding(&before);
    assert!(Arc::ptr_eq(&first, &find(&after, "1").unwrap()) && !first.is_withdrawn());
    assert!(second.is_withdrawn(), "under another name it is another key");
    assert!(find(&after, "2").is_none());
}

#[test]
fn what_a_withdrawn_key_verified_does_not_count() {
    let signer = Signer::new(Algorithm::ES256);
    let provider = trusting(&signer, Algorithm::ES256, Some("k"), &json!({}));
    let token = signer.token(Algorithm::ES256, Some("k"), &claims());
    let first = verdict(&provider, &token).unwrap();
    assert!(Arc::ptr_eq(&first, &verdict(&provider, &token).unwrap()), "it is remembered");
    provider.keys.current().withdraw();
    assert!(!Arc::ptr_eq(&first, &verdict(&provider, &token).unwrap()), "it is verified again");
}

#[test]
fn keys_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let signers = [Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA]
        .map(|algorithm| (algorithm, Signer::new(algorithm)));
    let pem = |der: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    };
    let set = json!({ "keys": signers.iter().map(|(_, signer)| signer.jwk(None)).collect::<Vec<_>>() });
    let pems: String = signers.iter().map(|(_, signer)| pem(&signer.public())).collect();
    let settings = json!({ "algorithms": ["ES256", "RS256", "EdDSA"], "keys": { "file": path } });
    for text in [set.to_string(), pems] {
        std::fs::write(&path, text).unwrap();
        let provider = provider(&settings).unwrap();
        for (algorithm, signer) in &signers {
            assert!(
                verdict(&provider, &signer.token(*algorithm, Some("x"), &claims())).is_ok(),
                "{algorithm:?}"
            );
        }
    }
    for (text, what) in [
        ("", "holds no public keys"),
        ("nothing", "holds no public keys"),
        ("{}", "no list `keys`"),
        ("{\"keys\":[]}", "it is empty"),
        (&pem(&[1, 2, 3]), "it is no RSA"),
        (&json!({ "keys": [signers[0].1.jwk(None), { "kty": "XX" }] }).to_string(), "`kty` is not known"),
    ] {
        std::fs::write(&path, text).unwrap();
        let report = provider(&settings).unwrap_err();
        assert!(report.contains(what) && report.starts_with("keys"), "{text}: {report}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(provider(&settings).unwrap_err().contains("cannot be read"));
}

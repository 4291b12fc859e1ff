use super::*;
use crate::identity::config::ConsumersConfig;
use crate::identity::consumers::Known;
use crate::retained::Retained;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PSS_SHA512,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pingora_http::RequestHeader;
use proptest::prelude::*;
use std::collections::BTreeMap;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_618_884_500;

fn signatures(consumers: &str, remembered: u32) -> Signatures {
    let config: ConsumersConfig = serde_json::from_str(consumers).unwrap();
    let (plans, providers) = (BTreeMap::new(), BTreeMap::new());
    let mut found = Vec::new();
    let known = Known { plans: &plans, providers: &providers };
    let consumers = Arc::new(Consumers::compile(&config, known, &Retained::default(), &mut found));
    assert!(found.is_empty(), "{found:?}");
    let config = SignaturesConfig { remembered: remembered.try_into().unwrap() };
    let signatures = Signatures::new(&config, &consumers, &Arc::new(Signatures::room()));
    // As a route would, for the rest of the test.
    Box::leak(Box::new(signatures.in_force(&Rules::new(&[], 300, 300).unwrap())));
    signatures
}

fn partner() -> Signatures {
    signatures(
        &format!(
            r#"{{"acme":{{"credentials":[{{"signature":{{"id":"partner","key":{{"hmac-sha256":"{SECRET}"}}}}}}]}}}}"#
        ),
        1000,
    )
}

fn rules(components: &[&str]) -> Rules {
    let components: Vec<String> = components.iter().map(|name| (*name).to_owned()).collect();
    Rules::new(&components, 300, 5).unwrap()
}

fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> RequestHeader {
    let mut head = RequestHeader::build(method, target.as_bytes(), None).unwrap();
    for (name, value) in fields {
        head.append_header((*name).to_owned(), (*value).to_owned()).unwrap();
    }
    head
}

fn message(head: &RequestHeader) -> Message<'_> {
    Message { head, scheme: "https", admitted: None }
}

/// What a signature with this input would be of.
fn base_of(head: &RequestHeader, input: &str) -> Result<Vec<u8>, Refused> {
    let dictionary = Parser::parse_dictionary(format!("sig={input}").as_bytes()).unwrap();
    let Some(ListEntry::InnerList(list)) = dictionary.get("sig") else { panic!("no list: {input}") };
    Input::read(list)?.base(message(head))
}

/// The request, signed as this input says.
fn signed(mut head: RequestHeader, input: &str) -> RequestHeader {
    let base = base_of(&head, input).unwrap();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), &base);
    head.append_header("signature-input", format!("sig={input}")).unwrap();
    head.append_header("signature", format!("sig=:{}:", STANDARD.encode(tag))).unwrap();
    head
}

/// Who is let in, or why nobody is.
fn check(
    signatures: &Signatures,
    rules: &Rules,
    head: &RequestHeader,
    now: u64,
) -> Result<String, &'static str> {
    match signatures.check(rules, message(head), now) {
        None => Err("absent"),
        Some(Ok(signed)) => Ok(format!(
            "{} by {}",
            signed.principal.consumer.as_ref().unwrap().name,
            signed.principal.subject
        )),
        Some(Err(refused)) => Err(refused.cause),
    }
}

/// The request of RFC 9421, appendix B.2.
fn of_the_standard() -> RequestHeader {
    head(
        "POST",
        "/foo?param=Value&Pet=dog",
        &[
            ("host", "example.com"),
            ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
            ("content-type", "application/json"),
            (
                "content-digest",
                "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
            ),
            ("content-length", "18"),
        ],
    )
}

#[test]
fn signatures_of_the_standard_count() {
    // Appendix B.2.5, whose secret is no text.
    let input = r#"("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#;
    let base = base_of(&of_the_standard(), input).unwrap();
    let expected = "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@authority\": example.com\n\"content-type\": application/json\n\"@signature-params\": (\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\"";
    assert_eq!(String::from_utf8(base.clone()).unwrap(), expected);
    let secret = STANDARD
        .decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
        .unwrap();
    let tag = STANDARD.decode("pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=").unwrap();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &secret), &base, &tag).unwrap();

    // Appendix B.2.6.
    let pem = "-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=\\n-----END PUBLIC KEY-----\\n";
    let consumers = format!(
        r#"{{"standard":{{"credentials":[{{"signature":{{"id":"test-key-ed25519","key":{{"ed25519":"{pem}"}}}}}}]}}}}"#
    );
    let signatures = signatures(&consumers, 10);
    let mut head = of_the_standard();
    head.insert_header(
        "signature-input",
        r#"sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#,
    )
    .unwrap();
    head.insert_header(
        "signature",
        "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:",
    )
    .unwrap();
    let rules = rules(&["@method", "@path", "date"]);
    assert_eq!(check(&signatures, &rules, &head, NOW).as_deref(), Ok("standard by test-key-ed25519"));
    assert_eq!(check(&signatures, &rules, &head, NOW), Err("signature_replayed"));
}

#[test]
fn what_components_stand_for() {
    let with = |target: &str, fields: &[(&str, &str)], id: &str| {
        let input = format!(r#"({id});created=1;keyid="k""#);
        let base = base_of(&head("GET", target, fields), &input).map_err(|refused| refused.cause)?;
        let text = String::from_utf8(base).unwrap();
        Ok::<_, &str>(text.lines().next().unwrap().split_once(": ").unwrap().1.to_owned())
    };
    let host = &[("host", "Example.com:443")][..];
    // Sections 2.2.3 to 2.2.8.
    for (target, id, expected) in [
        ("/path?a=1", r#""@method""#, "GET"),
        ("/path?a=1", r#""@target-uri""#, "https://example.com/path?a=1"),
        ("/path?a=1", r#""@authority""#, "example.com"),
        ("/path?a=1", r#""@scheme""#, "https"),
        ("/path?a=1", r#""@request-target""#, "/path?a=1"),
        ("/path?a=1", r#""@path""#, "/path"),
        ("/path?a=1", r#""@query""#, "?a=1"),
        ("/path", r#""@query""#, "?"),
        ("/path?", r#""@query""#, "?"),
        ("/path?param=value&foo=bar&baz=batman&qux=", r#""@query-param";name="baz""#, "batman"),
        ("/path?param=value&foo=bar&baz=batman&qux=", r#""@query-param";name="qux""#, ""),
        (
            "/parameters?var=this%20is%20a%20big%0Amultiline%20value&bar=with+plus+whitespace&fa%C3%A7ade%22%3A%20=something",
            r#""@query-param";name="var""#,
            "this%20is%20a%20big%0Amultiline%20value",
        ),
        (
            "/parameters?var=a&bar=with+plus+whitespace",
            r#""@query-param";name="bar""#,
            "with%20plus%20whitespace",
        ),
        (
            "/parameters?fa%C3%A7ade%22%3A%20=something",
            r#""@query-param";name="fa%C3%A7ade%22%3A%20""#,
            "something",
        ),
    ] {
        assert_eq!(with(target, host, id).as_deref(), Ok(expected), "{target} {id}");
    }
    let fields = &[("x-a", " one "), ("x-a", "two, three"), ("x-empty", ""), ("x-bytes", "caf\u{e9}")][..];
    for (id, expected) in [
        (r#""x-a""#, Ok("one, two, three")),
        (r#""x-a";bs"#, Ok(":b25l:, :dHdvLCB0aHJlZQ==:")),
        (r#""x-empty""#, Ok("")),
        (r#""x-bytes""#, Err("signature_component")),
        (r#""x-none""#, Err("signature_component")),
        (r#""X-A""#, Err("signature_component")),
        (r#""x-a";sf"#, Err("signature_component")),
        (r#""x-a";tr"#, Err("signature_component")),
        (r#""x-a";req"#, Err("signature_component")),
        (r#""x-a";key="a""#, Err("signature_component")),
        (r#""@method";bs"#, Err("signature_component")),
        (r#""@status""#, Err("signature_component")),
        (r#""@signature-params""#, Err("signature_component")),
        (r#""@query-param""#, Err("signature_component")),
        (r#""@query-param";name="none""#, Err("signature_component")),
        (r#""@query-param";name="t""#, Err("signature_component")),
        ("x-a", Err("signature_component")),
        (r#""x-a" "x-a""#, Err("signature_malformed")),
    ] {
        assert_eq!(with("/?t=1&t=2", fields, id), expected.map(str::to_owned), "{id}");
    }
}

#[test]
fn every_algorithm_counts_with_its_own_key_alone() {
    let random = SystemRandom::new();
    let ed = Ed25519KeyPair::generate().unwrap();
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
    let pem = |der: &[u8]| {
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    };
    let der = |key: PublicKeyX509Der<'_>| pem(key.as_ref());
    let keys = [
        ("hmac-sha256", SECRET.to_owned()),
        ("ed25519", der(ed.public_key().as_der().unwrap())),
        ("ecdsa-p256-sha256", der(ec.public_key().as_der().unwrap())),
        ("rsa-pss-sha512", der(rsa.public_key().as_der().unwrap())),
    ];
    let credentials: Vec<_> = keys
        .iter()
        .map(|(name, text)| serde_json::json!({ "signature": { "id": name, "key": { (*name): text } } }))
        .collect();
    let signatures =
        signatures(&serde_json::json!({ "acme": { "credentials": credentials } }).to_string(), 1000);
    let sign = |algorithm: &str, base: &[u8]| match algorithm {
        "hmac-sha256" => {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), base).as_ref().to_vec()
        }
        "ed25519" => ed.sign(base).as_ref().to_vec(),
        "ecdsa-p256-sha256" => ec.sign(&random, base).unwrap().as_ref().to_vec(),
        _ => {
            let mut signature = vec![0; rsa.public_modulus_len()];
            rsa.sign(&RSA_PSS_SHA512, &random, base, &mut signature).unwrap();
            signature
        }
    };
    let rules = rules(&["@method"]);
    for (key, _) in &keys {
        for (by, _) in &keys {
            for said in ["", ";alg=\"hmac-sha256\"", ";alg=\"ed25519\"", ";alg=\"none\""] {
                let input = format!(r#"("@method");created={NOW};keyid="{key}";nonce="{key}{by}"{said}"#);
                let mut head = head("GET", "/", &[]);
                let signature = sign(by, &base_of(&head, &input).unwrap());
                head.insert_header("signature-input", format!("a={input}")).unwrap();
                head.insert_header("signature", format!("a=:{}:", STANDARD.encode(signature))).unwrap();
                let expected = match (said.is_empty() || said.contains(&format!("\"{key}\"")), key == by) {
                    (false, _) => Err("signature_algorithm"),
                    (true, false) => Err("signature_wrong"),
                    // The nonce is the same: once.
                    (true, true) if !said.is_empty() => Err("signature_replayed"),
                    (true, true) => Ok(format!("acme by {key}")),
                };
                assert_eq!(check(&signatures, &rules, &head, NOW), expected, "{key} by {by} {said}");
            }
        }
    }
}

#[test]
fn who_was_revoked_takes_no_room() {
    use crate::retained::Carried as _;
    let revocations = Arc::new(Revocations::default());
    let all = serde_json::json!([{ "subject": "acme", "before": "2999-01-01T00:00:00Z" }]);
    revocations.import(Revocations::VERSION, all).unwrap();
    let (signatures, rules) = (partner(), rules(&["@method"]));
    let head = signed(head("GET", "/", &[]), &format!(r#"("@method");created={NOW};keyid="partner""#));
    let refusing = signatures.clone().without(&revocations);
    assert_eq!(check(&refusing, &rules, &head, NOW), Err("revoked"));
    assert_eq!(check(&signatures, &rules, &head, NOW).as_deref(), Ok("acme by partner"), "not remembered");
    assert_eq!(check(&signatures, &rules, &head, NOW), Err("signature_replayed"));
}

#[test]
fn what_does_not_count() {
    let signatures = partner();
    let rules = rules(&["@method", "@path", "@query"]).with_nonce(true);
    let covered = r#"("@method" "@path" "@query")"#;
    let request = || head("GET", "/a?b=c", &[("host", "example.com"), ("x-a", "1")]);
    let created = |at: u64| format!(r#"{covered};created={at};keyid="partner";nonce="{at}""#);
    for (input, now, expected) in [
        (created(NOW), NOW, Ok("acme by partner")),
        (created(NOW - 300), NOW, Ok("acme by partner")),
        (created(NOW - 306), NOW, Err("signature_expired")),
        (created(NOW + 5), NOW, Ok("acme by partner")),
        (created(NOW + 6), NOW, Err("signature_from_the_future")),
        (
            format!(r#"{covered};created={NOW};expires={};keyid="partner";nonce="e1""#, NOW - 6),
            NOW,
            Err("signature_expired"),
        ),
        (
            format!(r#"{covered};created={NOW};expires={};keyid="partner";nonce="e2""#, NOW + 6),
            NOW,
            Ok("acme by partner"),
        ),
        (format!(r#"{covered};keyid="partner";nonce="n""#), NOW, Err("signature_malformed")),
        (format!(r#"{covered};created=-1;keyid="partner";nonce="n""#), NOW, Err("signature_malformed")),
        (format!(r#"{covered};created="{NOW}";keyid="partner";nonce="n""#), NOW, Err("signature_malformed")),
        (format!(r#"{covered};created={NOW};nonce="n""#), NOW, Err("signature_malformed")),
        (format!(r#"{covered};created={NOW};keyid=partner;nonce="n""#), NOW, Err("signature_malformed")),
        (format!(r#"{covered};created={NOW};keyid="partner""#), NOW, Err("signature_nonce")),
        (format!(r#"{covered};created={NOW};keyid="partner";nonce="""#), NOW, Err("signature_nonce")),
        (format!(r#"{covered};created={NOW};keyid="nobody";nonce="n""#), NOW, Err("signature_key_unknown")),
        (format!(r#"();created={NOW};keyid="partner";nonce="n""#), NOW, Err("signature_coverage")),
        (
            format!(r#"("@method" "@path");created={NOW};keyid="partner";nonce="n""#),
            NOW,
            Err("signature_coverage"),
        ),
        (
            format!(r#"("@method" "@path" "x-a");created={NOW};keyid="partner";nonce="n""#),
            NOW,
            Err("signature_coverage"),
        ),
        (
            format!(r#"("@method" "@target-uri");created={NOW};keyid="partner";nonce="t""#),
            NOW,
            Ok("acme by partner"),
        ),
        (
            format!(r#"("@method" "@request-target");created={NOW};keyid="partner";nonce="r""#),
            NOW,
            Ok("acme by partner"),
        ),
    ] {
        let signs = base_of(&request(), &input).is_ok();
        let head = if signs {
            signed(request(), &input)
        } else {
            let mut head = request();
            head.insert_header("signature-input", format!("sig={input}")).unwrap();
            head.insert_header("signature", "sig=:AAAA:").unwrap();
            head
        };
        assert_eq!(check(&signatures, &rules, &head, now), expected.map(str::to_owned), "{input}");
    }
    assert_eq!(check(&signatures, &rules, &request(), NOW), Err("absent"));
}

#[test]
fn what_is_not_clear_is_refused() {
    let rules = rules(&["@method"]);
    let whole = |nonce: &str| format!(r#"("@method");created={NOW};keyid="partner";nonce="{nonce}""#);
    let refused = |edit: &dyn Fn(&mut RequestHeader)| {
        let mut head = signed(head("GET", "/", &[]), &whole("x"));
        edit(&mut head);
        check(&partner(), &rules, &head, NOW)
    };
    assert_eq!(refused(&|_| {}).as_deref(), Ok("acme by partner"));
    type Edit = fn(&mut RequestHeader);
    let table: [(Edit, &str); 8] = [
        (|head| drop(head.remove_header("signature")), "signature_malformed"),
        (|head| head.insert_header("signature", "other=:AAAA:").unwrap(), "signature_malformed"),
        (|head| head.insert_header("signature", "sig=AAAA").unwrap(), "signature_malformed"),
        (|head| head.insert_header("signature", "sig=::").unwrap(), "signature_wrong"),
        (|head| head.insert_header("signature-input", "sig=7").unwrap(), "signature_malformed"),
        (|head| head.insert_header("signature-input", "((").unwrap(), "signature_malformed"),
        (
            |head| {
                head.append_header("signature-input", "two=(\"@method\");created=1;keyid=\"partner\"")
                    .map(drop)
                    .unwrap();
            },
            "ambiguous",
        ),
        (
            |head| {
                let same = head.headers["signature"].clone();
                head.append_header("signature", same).unwrap();
            },
            "signature_malformed",
        ),
    ];
    for (place, (edit, expected)) in table.iter().enumerate() {
        assert_eq!(refused(edit), Err(*expected), "{place}");
    }
    // Somebody on the way has signed as well: a tag says which one is meant.
    let input = format!(r#"{};tag="app""#, whole("t"));
    let mut head = signed(head("GET", "/", &[]), &input);
    head.append_header("signature-input", "proxy=(\"@method\");created=1;keyid=\"proxy\";tag=\"via\"")
        .unwrap();
    head.append_header("signature", "proxy=:AAAA:").unwrap();
    let signatures = partner();
    assert_eq!(check(&signatures, &rules, &head, NOW), Err("ambiguous"));
    let tagged = rules.clone().tagged(Some("app"));
    assert_eq!(check(&signatures, &tagged, &head, NOW).as_deref(), Ok("acme by partner"));
    assert_eq!(check(&signatures, &rules.tagged(Some("none")), &head, NOW), Err("absent"));
}

#[test]
fn a_request_counts_once_and_none_when_there_is_no_room() {
    let consumers = format!(
        r#"{{"acme":{{"credentials":[{{"signature":{{"id":"partner","key":{{"hmac-sha256":"{SECRET}"}}}}}}]}}}}"#
    );
    let (signatures, rules) = (signatures(&consumers, 2), rules(&["@method", "@path"]));
    let sign = |path: &str, more: &str| {
        signed(head("GET", path, &[]), &format!(r#"("@method" "@path");created={NOW};keyid="partner"{more}"#))
    };
    let ok = Ok("acme by partner".to_owned());
    assert_eq!(check(&signatures, &rules, &sign("/a", ""), NOW), ok);
    assert_eq!(check(&signatures, &rules, &sign("/a", ""), NOW + 1), Err("signature_replayed"));
    assert_eq!(check(&signatures, &rules, &sign("/b", ";nonce=\"1\""), NOW), ok);
    assert_eq!(check(&signatures, &rules, &sign("/c", ";nonce=\"1\""), NOW), Err("signature_replayed"));
    let full = signatures.check(&rules, message(&sign("/d", "")), NOW).unwrap().unwrap_err();
    assert_eq!((full.cause, full.unavailable), ("signatures_full", true));
    // Another policy may look at the same signature.
    let head = sign("/f", ";nonce=\"3\"");
    let signatures = partner();
    let first = signatures.check(&rules, message(&head), NOW).unwrap().unwrap();
    let again = Message { admitted: Some(first.id), ..message(&head) };
    assert!(signatures.check(&rules, again, NOW).unwrap().is_ok());
    assert!(signatures.check(&rules, message(&head), NOW).unwrap().is_err());
    // A wrong one takes no room, and spoils no nonce.
    let mut wrong = sign("/e", ";nonce=\"2\"");
    wrong.insert_header("signature", "sig=:AAAA:").unwrap();
    assert_eq!(check(&signatures, &rules, &wrong, NOW), Err("signature_wrong"));
}

#[test]
fn what_a_short_window_has_let_in_a_long_one_does_not() {
    let short = Rules::new(&[], 60, 5).unwrap();
    let long = rules(&[]);
    let room = Arc::new(Signatures::room());
    let signatures = Signatures::new(&SignaturesConfig::default(), &partner().consumers, &room);
    let _both = [signatures.in_force(&short), signatures.in_force(&long)];
    let once = signed(head("GET", "/", &[]), &format!(r#"("@method");created={NOW};keyid="partner""#));
    assert!(check(&signatures, &short, &once, NOW).is_ok());
    for later in [60, 66, 200, 305] {
        assert_eq!(check(&signatures, &long, &once, NOW + later), Err("signature_replayed"), "{later}");
    }
    assert_eq!(check(&signatures, &long, &once, NOW + 306), Err("signature_expired"));
}

mod simply {
    use super::*;

    fn sign(mut head: RequestHeader, id: &str, date: &str, digest: &str) -> RequestHeader {
        let text = super::super::simple::base(message(&head), date, digest);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), text.as_bytes());
        let value = format!("HMAC-SHA256 keyid=\"{id}\", signature=\"{}\"", STANDARD.encode(tag));
        head.insert_header("authorization", value).unwrap();
        head
    }

    fn check(signatures: &Signatures, head: &RequestHeader) -> Result<bool, &'static str> {
        let rules = Rules::new(&[], 300, 300).unwrap();
        match signatures.check_simple(&rules, message(head), NOW) {
            None => Err("absent"),
            Some(Ok(signed)) => Ok(signed.digest),
            Some(Err(refused)) => Err(refused.cause),
        }
    }

    const DATE: &str = "Tue, 20 Apr 2021 02:07:55 GMT";

    #[test]
    fn five_lines_are_signed() {
        let signatures = partner();
        let request = || head("POST", "/a?b=c", &[("host", "Example.com"), ("date", DATE)]);
        let text = super::super::simple::base(message(&request()), DATE, "");
        assert_eq!(text, "POST\n/a?b=c\nexample.com\nTue, 20 Apr 2021 02:07:55 GMT\n\n");
        let good = sign(request(), "partner", DATE, "");
        assert_eq!(check(&signatures, &good), Ok(false));
        assert_eq!(check(&signatures, &good), Err("signature_replayed"));
        let mut with_body = request();
        with_body.insert_header("content-digest", "sha-256=:AAAA:").unwrap();
        assert_eq!(check(&signatures, &sign(with_body, "partner", DATE, "sha-256=:AAAA:")), Ok(true));

        let tampered = |edit: &dyn Fn(&mut RequestHeader)| {
            let mut head = sign(request(), "partner", DATE, "");
            edit(&mut head);
            check(&partner(), &head)
        };
        type Edit = fn(&mut RequestHeader);
        let table: [(Edit, &str); 9] = [
            (|head| head.set_method(http::Method::GET), "signature_wrong"),
            (|head| head.set_uri("/a?b=d".parse().unwrap()), "signature_wrong"),
            (|head| head.insert_header("host", "other.example").unwrap(), "signature_wrong"),
            (|head| head.insert_header("date", "Tue, 20 Apr 2021 02:07:56 GMT").unwrap(), "signature_wrong"),
            (|head| head.insert_header("date", "yesterday").unwrap(), "signature_malformed"),
            (|head| head.append_header("date", DATE).map(drop).unwrap(), "ambiguous"),
            (|head| drop(head.remove_header("date")), "signature_malformed"),
            (|head| head.insert_header("content-digest", "sha-256=:AAAA:").unwrap(), "signature_wrong"),
            (
                |head| head.insert_header("authorization", "hmac-sha256 keyid=\"partner\"").unwrap(),
                "signature_malformed",
            ),
        ];
        for (place, (edit, expected)) in table.iter().enumerate() {
            assert_eq!(tampered(edit), Err(*expected), "{place}");
        }
        for (date, expected) in [
            ("Tue, 20 Apr 2021 01:57:55 GMT", "signature_expired"),
            ("Tue, 20 Apr 2021 02:15:00 GMT", "signature_from_the_future"),
        ] {
            let head = head("GET", "/", &[("date", date)]);
            assert_eq!(check(&partner(), &sign(head, "partner", date, "")), Err(expected));
        }
        assert_eq!(check(&partner(), &sign(request(), "nobody", DATE, "")), Err("signature_key_unknown"));
        assert_eq!(check(&partner(), &request()), Err("absent"));
    }
}

#[test]
fn keys_that_cannot_be_used_are_mistakes() {
    let read =
        |json: &str| SigningKey::read(&serde_json::from_str(json).unwrap()).map_err(|problem| problem.what);
    let ed = "-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=\\n-----END PUBLIC KEY-----";
    assert!(read(&format!(r#"{{"ed25519":"{ed}"}}"#)).is_ok());
    for (json, says) in [
        (format!(r#"{{"rsa-pss-sha512":"{ed}"}}"#), "not for rsa-pss-sha512"),
        (r#"{"hmac-sha256":"too short"}"#.to_owned(), "shorter than 32 bytes"),
        (r#"{"ed25519":"MCowBQYDK2Vw"}"#.to_owned(), "not the PEM of a public key"),
    ] {
        assert!(read(&json).unwrap_err().contains(says), "{json}");
    }
}

proptest! {
    #[test]
    fn no_mutation_of_a_signed_request_is_let_in(
        (path, query, value, nonce) in ("/[a-z0-9/]{0,12}", "[a-z0-9=&]{0,12}", "[a-z0-9 ,]{1,12}", "[a-z0-9]{1,8}"),
        (kind, place, other) in (0_usize..12, any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let rules = rules(&["@method", "@authority", "@path", "@query", "x-a"]);
        let value = format!("v{}v", value.trim());
        let original = head("POST", &format!("{path}?{query}"), &[("host", "example.com"), ("x-a", &value)]);
        let input = format!(
            r#"("@method" "@authority" "@path" "@query" "x-a");created={NOW};keyid="partner";nonce="{nonce}""#
        );
        let original = signed(original, &input);
        prop_assert!(check(&partner(), &rules, &original, NOW).is_ok());

        // One letter of a text becomes another one, or a further one comes, or one goes.
        const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let change = |text: &str, way: usize| {
            let mut bytes = text.as_bytes().to_vec();
            let at = place.index(bytes.len());
            match way {
                0 => {
                    let fresh = LETTERS[other.index(LETTERS.len())];
                    bytes[at] = if bytes[at] == fresh { b'_' } else { fresh };
                }
                1 => bytes.insert(at, LETTERS[other.index(LETTERS.len())]),
                _ => drop(bytes.remove(at)),
            }
            String::from_utf8(bytes).unwrap()
        };
        let mut mutated = original.clone();
        let text = |name: &str| original.headers[name].to_str().unwrap().to_owned();
        match kind {
            0 => mutated.set_method(http::Method::PUT),
            1..=3 => {
                // Behind the first slash: a path begins with one.
                let target = format!("/{}", change(&format!("{}?{query}", &path[1..]), kind - 1));
                mutated = head("POST", &target, &[]);
                for (name, value) in &original.headers {
                    mutated.append_header(name.clone(), value.clone()).unwrap();
                }
            }
            4 => mutated.insert_header("host", change("example.com", 1)).unwrap(),
            5 | 6 => mutated.insert_header("x-a", change(&value, kind - 5)).unwrap(),
            7 => mutated.append_header("x-a", "more").map(drop).unwrap(),
            8 => drop(mutated.remove_header("x-a")),
            9 => mutated.insert_header("signature-input", text("signature-input").replace(&NOW.to_string(), &(NOW + 1).to_string())).unwrap(),
            10 => mutated.insert_header("signature-input", text("signature-input").replace(&format!("nonce=\"{nonce}"), &format!("nonce=\"{}", change(&nonce, 1)))).unwrap(),
            _ => {
                let mut bytes = STANDARD.decode(text("signature").trim_start_matches("sig=").trim_matches(':')).unwrap();
                let at = place.index(bytes.len());
                bytes[at] ^= 1 << other.index(8);
                mutated.insert_header("signature", format!("sig=:{}:", STANDARD.encode(bytes))).unwrap();
            }
        }
        // An absent query and an empty one are signed alike (RFC 9421 section 2.2.7).
        let target = |head: &RequestHeader| {
            (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned())
        };
        let same = target(&mutated) == target(&original) && mutated.method == original.method && mutated.headers == original.headers;
        prop_assert!(same || check(&partner(), &rules, &mutated, NOW).is_err(), "{mutated:?}");
    }
}

use super::*;
use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, KeyPair, SanType};

fn issue(names: &[(DnType, &str)], alternatives: Vec<SanType>) -> ClientCertificate {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, text) in names {
        params.distinguished_name.push(kind.clone(), *text);
    }
    params.subject_alt_names = alternatives;
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    ClientCertificate::parse(certificate.der()).unwrap()
}

fn subject(text: &str) -> Result<String, String> {
    text.parse::<DistinguishedName>().map(|name| name.to_string()).map_err(|problem| problem.what)
}

#[test]
fn a_subject_has_one_text() {
    for (text, expected) in [
        ("CN=billing,O=Example", "CN=billing,O=Example"),
        ("cn = billing , o = Example Inc ", "CN=billing,O=Example Inc"),
        ("2.5.4.3=billing", "CN=billing"),
        ("1.2.3.4=x", "1.2.3.4=x"),
        ("emailaddress=a@b.c,uid=7", "emailAddress=a@b.c,UID=7"),
        (r"CN=a\,O=b", r"CN=a\,O=b"),
        (r"CN=a\2CO=b", r"CN=a\,O=b"),
        (r"CN=a\+b\=c=d", r"CN=a\+b=c=d"),
        (r"CN=\ a\ ", r"CN=\ a\ "),
        (r"CN=\#x", r"CN=\#x"),
        (r"CN=\C3\A9t\C3\A9", "CN=été"),
        (r"CN=a\0a", r"CN=a\0a"),
        ("CN=#0C0161", "CN=#0c0161"),
        ("OU=b+CN=a,O=c", "CN=a+OU=b,O=c"),
    ] {
        assert_eq!(subject(text).as_deref(), Ok(expected), "{text}");
        assert_eq!(subject(expected).as_deref(), Ok(expected), "{text} twice");
    }
    for text in [
        "",
        "billing",
        "CN=",
        "CN=a,,O=b",
        "XY=a",
        r#"CN="a""#,
        "CN=a;O=b",
        r"CN=a\",
        r"CN=\q",
        r"CN=\ff",
        "CN=#0",
        "CN=#",
    ] {
        assert!(subject(text).is_err(), "{text}: {:?}", subject(text));
    }
}

#[test]
fn what_stands_in_a_certificate() {
    let certificate = issue(
        &[(DnType::OrganizationName, "Example, Inc."), (DnType::CommonName, "billing")],
        vec![
            SanType::DnsName("Billing.Internal".try_into().unwrap()),
            SanType::URI("spiffe://example.org/billing".try_into().unwrap()),
            SanType::Rfc822Name("Ops@Example.ORG".try_into().unwrap()),
        ],
    );
    assert_eq!(certificate.subject.as_str(), r"CN=billing,O=Example\, Inc.");
    assert_eq!(certificate.dns, ["billing.internal".into()].into());
    assert_eq!(certificate.uris, ["spiffe://example.org/billing".into()].into());
    assert_eq!(certificate.emails, ["Ops@example.org".into()].into());
    assert_eq!(certificate.fingerprint.len(), 64);
    let colons: Vec<String> = certificate
        .fingerprint
        .as_bytes()
        .chunks(2)
        .map(|pair| String::from_utf8_lossy(pair).to_uppercase())
        .collect();
    let is_of = |json: &str| {
        let config: CertificateConfig = serde_json::from_str(json).unwrap();
        certificate.digests().contains(&config.digest().unwrap())
    };
    assert!(is_of(&format!(r#"{{"fingerprint":"{}"}}"#, colons.join(":"))));
    for (json, expected) in [
        (r#"{"subject":"cn=billing, o=Example\\, Inc."}"#, true),
        (r#"{"subject":"O=Example\\, Inc.,CN=billing"}"#, false),
        (r#"{"subject":"CN=billing"}"#, false),
        (r#"{"subject":"CN=billing,O=Example,O=Inc."}"#, false),
        (r#"{"dns":"BILLING.internal"}"#, true),
        (r#"{"dns":"internal"}"#, false),
        (r#"{"dns":"spiffe://example.org/billing"}"#, false),
        (r#"{"uri":"spiffe://example.org/billing"}"#, true),
        (r#"{"uri":"spiffe://example.org/Billing"}"#, false),
        (r#"{"email":"Ops@example.org"}"#, true),
        (r#"{"email":"ops@example.org"}"#, false),
    ] {
        assert_eq!(is_of(json), expected, "{json}");
    }
}

#[test]
fn no_name_passes_for_another_by_its_commas() {
    let sly = issue(&[(DnType::CommonName, "billing,O=Example")], vec![]);
    let real = issue(&[(DnType::OrganizationName, "Example"), (DnType::CommonName, "billing")], vec![]);
    assert_eq!(real.subject.as_str(), "CN=billing,O=Example");
    assert_ne!(sly.subject, real.subject);
    // A certificate without a subject is nobody's by it.
    assert_eq!(issue(&[], vec![]).digests().len(), 1);
}

#[test]
fn what_no_certificate_has_is_a_mistake() {
    for json in [r#"{"dns":""}"#, r#"{"subject":"CN"}"#, r#"{"subject":""}"#] {
        let config: CertificateConfig = serde_json::from_str(json).unwrap();
        assert!(config.digest().is_err(), "{json}");
    }
    assert!(serde_json::from_str::<CertificateConfig>(r#"{"fingerprint":"ab"}"#).is_err());
}

proptest! {
    #[test]
    fn what_a_certificate_says_can_be_written_as_it_is_printed(
        (common, unit) in (".{1,20}", ".{1,20}"),
    ) {
        let certificate =
            issue(&[(DnType::OrganizationalUnitName, &unit), (DnType::CommonName, &common)], vec![]);
        let printed = certificate.subject.to_string();
        prop_assert_eq!(subject(&printed), Ok(printed.clone()));
        prop_assert!(!printed.contains(char::is_control));
        let other = issue(&[(DnType::CommonName, &format!("{common},OU={unit}"))], vec![]);
        prop_assert_ne!(other.subject, certificate.subject);
    }
}

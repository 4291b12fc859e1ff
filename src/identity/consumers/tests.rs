use super::*;
use crate::identity::config::{ConsumerConfig, ConsumerName};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn config(json: &str) -> ConsumersConfig {
    serde_json::from_str(json).unwrap()
}

fn compile(config: &ConsumersConfig, retained: &Retained) -> (Consumers, Vec<String>) {
    let plans = BTreeMap::from([("gold".parse().unwrap(), Arc::default())]);
    let known = Known { plans: &plans, providers: &BTreeMap::new() };
    let mut found = Vec::new();
    let consumers = Consumers::compile(config, known, retained, &mut found);
    let told = found.iter().map(|finding| format!("{}: {}", finding.path, finding.problem.what)).collect();
    (consumers, told)
}

/// The consumers of a file with this text, and what is wrong with it, without the file's own path.
fn of_file(text: &str, named: &str) -> (Consumers, Vec<String>) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("consumers.jsonl");
    fs::write(&path, text).unwrap();
    let config = ConsumersConfig { file: Some(path.clone()), ..config(named) };
    let (consumers, told) = compile(&config, &Retained::default());
    let short = |told: String| told.replace(&format!("`{}`", path.display()), "FILE");
    (consumers, told.into_iter().map(short).collect())
}

fn whose(consumers: &Consumers, key: &str) -> Option<String> {
    consumers.by_api_key(&Sha256::of(key.as_bytes())).map(|principal| principal.subject.to_string())
}

#[test]
fn a_key_finds_its_consumer_by_digest() {
    let json = format!(
        r#"{{"acme":{{"plan":"gold","tenant":"big","groups":["a","b"],"credentials":[{{"api_key":{{"key":"{KEY}"}}}}]}},
            "other":{{"credentials":[{{"api_key":{{"sha256":"{}"}}}}]}}}}"#,
        Sha256::of(b"another key that is long enough")
    );
    let (consumers, told) = compile(&config(&json), &Retained::default());
    assert_eq!((told, consumers.len()), (vec![], 2));
    assert_eq!(whose(&consumers, KEY).as_deref(), Some("acme"));
    assert_eq!(whose(&consumers, "another key that is long enough").as_deref(), Some("other"));
    assert_eq!(whose(&consumers, &Sha256::of(KEY.as_bytes()).to_string()), None, "a digest is no key");
    let acme = consumers.by_api_key(&Sha256::of(KEY.as_bytes())).unwrap();
    let consumer = acme.consumer.as_ref().unwrap();
    assert_eq!((consumer.plan.as_deref(), &*consumer.groups[1]), (Some("gold"), "b"));
    assert_eq!(consumer.tenant.as_deref(), Some("big"));
    let again = consumers.by_api_key(&Sha256::of(KEY.as_bytes())).unwrap();
    assert!(Arc::ptr_eq(acme, again), "nothing is made twice");
    assert_eq!(consumers.by_name("other").unwrap().plan, None);
    assert_eq!(consumers.by_name("other").unwrap().tenant, None);
}

#[test]
fn no_provider_passes_its_subjects_off_as_anothers() {
    let wrong = |prefixes: [&str; 2]| {
        let provider = |prefix: &str| {
            serde_json::json!({ "jwt": {
                "issuer": "a", "audiences": ["api"], "algorithms": ["ES256"],
                "keys": { "url": "http://127.0.0.1:1/" }, "admit": { "prefix": prefix },
            } })
        };
        let [one, other] = prefixes.map(provider);
        let providers: BTreeMap<Name, ProviderConfig> =
            serde_json::from_value(serde_json::json!({ "one": one, "other": other })).unwrap();
        let mut found = Vec::new();
        let known = Known { plans: &BTreeMap::new(), providers: &providers };
        Consumers::compile(&config("{}"), known, &Retained::default(), &mut found);
        found.iter().map(|finding| finding.path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(wrong(["p:", "p:2:"]), ["identity.providers.one.jwt.admit"]);
    assert_eq!(wrong(["p:2:", "p:"]), ["identity.providers.other.jwt.admit"]);
    assert!(wrong(["p:", "q:"]).is_empty());
    assert!(wrong(["p:", "p:"]).is_empty(), "the same on purpose");
}

#[test]
fn a_key_is_never_taken_for_a_subject() {
    let json = r#"{"acme":{"credentials":[{"jwt":{"provider":"main","subject":"17"}}]}}"#;
    let (consumers, _) = compile(&config(json), &Retained::default());
    assert_eq!(&*consumers.by_subject("main", "17").unwrap().name, "acme");
    for (provider, subject) in [("main1", "7"), ("main", "1"), ("mai", "n17"), ("main", "")] {
        assert!(consumers.by_subject(provider, subject).is_none(), "{provider} {subject}");
    }
    assert!(consumers.by_api_key(&table::subject("main", "17")).is_none());
}

#[test]
fn what_two_consumers_share_is_a_mistake() {
    let key = format!(r#"{{"credentials":[{{"api_key":{{"key":"{KEY}"}}}}]}}"#);
    let (_, told) = compile(&config(&format!(r#"{{"a":{key},"b":{key}}}"#)), &Retained::default());
    assert_eq!(told, ["consumers.b: the consumers `a` and `b` have the same API key"]);
    let (_, told) =
        compile(&config(r#"{"a":{"credentials":[{"api_key":{"key":"short"}}]}}"#), &Retained::default());
    assert_eq!(told, ["consumers.a.credentials[0]: the API key has fewer than 16 characters"]);
}

#[test]
fn a_file_has_a_consumer_a_line() {
    let digest = Sha256::of(KEY.as_bytes());
    let text = format!(
        "{{\"name\":\"acme\",\"plan\":\"gold\",\"credentials\":[{{\"api_key\":{{\"sha256\":\"{digest}\"}}}}]}}\n\n{{\"name\":\"bare\"}}\r\n{{\"name\":\"last\"}}"
    );
    let (consumers, told) = of_file(&text, "{}");
    assert_eq!((told, consumers.len()), (vec![], 3));
    assert_eq!(whose(&consumers, KEY).as_deref(), Some("acme"));
    assert!(consumers.by_name("last").is_some() && consumers.by_name("acm").is_none());
}

#[test]
fn mistakes_in_a_file_are_told_by_line() {
    let (_, told) =
        of_file("{\"name\":\"a\"}\n{\"name\":\"b\",\"plam\":\"x\"}\n{\"name\":\"c\"\n[]\n{}\n", "{}");
    let expected = [
        "consumers.file: FILE line 2: unknown field `plam`, expected one of `name`, `plan`, `tenant`, `groups`, `credentials` (column 18)",
        "consumers.file: FILE line 3: EOF while parsing an object (column 0)",
        "consumers.file: FILE line 4: invalid length 0, expected struct Line with 4 elements (column 2)",
        "consumers.file: FILE line 5: missing field `name` (column 2)",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        let (told, expected) = (told.split(" (column").next(), expected.split(" (column").next());
        if !expected.unwrap().contains("invalid length") {
            assert_eq!(told, expected);
        }
    }
    let (_, told) = of_file("{\"name\":\"a\",\"plan\":\"gild\"}\n{\"name\":\"a\"}\n", "{}");
    assert_eq!(told, ["consumers.file: FILE: there are two consumers `a`"]);
    let (_, told) = of_file("\n{\"name\":\"a\",\"plan\":\"gild\"}\n", "{}");
    assert_eq!(told, ["consumers.file: FILE line 2: unknown plan `gild`"]);
    let (_, told) = of_file(&"{}\n".repeat(100), "{}");
    assert_eq!(
        (told.len(), told.last().unwrap().as_str()),
        (21, "consumers.file: FILE is not read beyond line 20")
    );
}

#[test]
fn a_secret_in_the_wrong_place_is_not_shown() {
    for wrong in [
        r#"{"name":"a","credentials":[{"api_key":"hunter2"}]}"#,
        r#"{"name":"a","credentials":[{"api_key":{"sha256":"hunter2"}}]}"#,
        r#"{"name":"a","credentials":["hunter2"]}"#,
        r#"{"name":"a","credentials":"hunter2"}"#,
        r#"{"name":"a","credentials":[{"api_key":{"key":{"file":"hunter2"}}}]}"#,
    ] {
        let (_, told) = of_file(wrong, "{}");
        assert!(told.len() == 1 && !told[0].contains("hunter2"), "{wrong}: {told:?}");
    }
}

#[test]
fn the_file_and_the_configuration_share_nothing() {
    let key = format!(r#""credentials":[{{"api_key":{{"key":"{KEY}"}}}}]"#);
    let (_, told) = of_file(
        &format!("{{\"name\":\"b\",{key}}}\n{{\"name\":\"c\"}}\n"),
        &format!(r#"{{"a":{{{key}}},"c":{{}}}}"#),
    );
    assert_eq!(
        told,
        [
            "consumers.file: there are two consumers `c`",
            "consumers.file: the consumers `a` and `b` have the same API key"
        ]
    );
}

#[test]
fn a_file_that_has_not_changed_is_not_read_again() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("consumers.jsonl");
    let write = |text: &str, age: u64| {
        fs::write(&path, text).unwrap();
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
        fs::File::options().append(true).open(&path).unwrap().set_modified(then).unwrap();
    };
    let retained = Retained::default();
    let read = |path: &Path| {
        let config = ConsumersConfig { file: Some(path.to_owned()), ..ConsumersConfig::default() };
        compile(&config, &retained)
    };
    write("{\"name\":\"a\"}\n", 100);
    let (first, _) = read(&path);
    let (second, _) = read(&path);
    assert!(Arc::ptr_eq(&first.from_file, &second.from_file));
    write("{\"name\":\"b\"}\n", 50);
    let (third, _) = read(&path);
    assert!(third.by_name("b").is_some() && third.by_name("a").is_none());
    write("{\"name\":\"c\"}\n", 0);
    let (fourth, _) = read(&path);
    let (fifth, _) = read(&path);
    assert!(!Arc::ptr_eq(&fourth.from_file, &fifth.from_file), "it may have changed within the clock's tick");
    drop((first, second, third, fourth));
    assert!(fifth.by_name("c").is_some(), "what a snapshot has stays");
}

#[test]
fn many_names_that_are_alike_stay_apart() {
    let named = (0..2000).map(|n| {
        let name: ConsumerName = format!("c{n}").parse().unwrap();
        let key = format!(r#"{{"credentials":[{{"api_key":{{"key":"key number {n:08}"}}}}]}}"#);
        (name, Arc::new(serde_json::from_str::<ConsumerConfig>(&key).unwrap()))
    });
    let config = ConsumersConfig { file: None, named: named.collect() };
    let (consumers, told) = compile(&config, &Retained::default());
    assert!(told.is_empty());
    for n in 0..2000 {
        assert_eq!(whose(&consumers, &format!("key number {n:08}")), Some(format!("c{n}")));
    }
}

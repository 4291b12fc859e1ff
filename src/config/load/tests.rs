use super::*;
use crate::values::Step;
use proptest::prelude::*;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

const GOOD: &str = "version: 1
process: { drain: 5s, workers: \"${WORKERS}\" }
admin: { token: \"${TOKEN}\" }
listeners:
  web:
    address: 127.0.0.1:8080
    error_pages: { 404: pages/404.html }
upstreams:
  orders:
    endpoints:
      - 127.0.0.1:9000
      - { address: \"[::1]:9000\", weight: 2 }
routes:
  orders:
    match: { hosts: [api.example.com], path: \"/orders/{*rest}\" }
    priority: ${PRIORITY:-3}
    policies:
      headers: { response: { set: { x-frame-options: deny, x-price: \"$${5}\" } } }
    to: orders
";

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn loader() -> Loader {
    Loader::new(variables(&[("WORKERS", "4"), ("TOKEN", "hunter2"), ("A", "a"), ("EMPTY", "")]))
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("pages")).unwrap();
    fs::write(folder.path().join("pages/404.html"), "no").unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn path(text: &str) -> ConfigPath {
    text.split('.').fold(ConfigPath::root(), |path, step| match step.parse() {
        Ok(index) => path.index(index),
        Err(_) => path.key(step),
    })
}

#[test]
fn a_file_is_read_with_its_variables_and_paths() {
    let folder = folder(&[("gateway.yaml", GOOD)]);
    let loaded = loader().load(&folder.path().join("gateway.yaml")).unwrap();
    let config = loaded.config;
    assert_eq!(loaded.warnings, ConfigErrors::default());
    assert_eq!(config.process.workers.count(), 4, "a number field reads the variable's text");
    assert_eq!(config.admin.as_ref().unwrap().token.expose(), "hunter2");
    assert_eq!(config.listeners["web"].error_pages[&404], folder.path().join("pages/404.html"));
    let route = &config.routes["orders"];
    assert_eq!(route.priority, 3, "the default of a variable that is not set");
    let headers = route.policies.headers.as_ref().unwrap().on().unwrap();
    assert_eq!(headers.response.set["x-price"], "${5}", "`$${{` stands for `${{`");
    assert_eq!(config.upstreams["orders"].endpoints[1].weight, 2);
    assert!(config.files().contains(&folder.path().join("pages/404.html")));
}

#[test]
fn the_view_shows_no_secret_and_where_values_come_from() {
    let folder = folder(&[("gateway.yaml", GOOD)]);
    let config = loader().load(&folder.path().join("gateway.yaml")).unwrap().config;
    let view = config.view();
    assert!(!view.contains("hunter2") && !view.contains("TOKEN"), "{view}");
    for shown in ["token: '***'", "workers: ${WORKERS}", "priority: ${PRIORITY:-3}", "drain: 5s"] {
        assert!(view.contains(shown), "{shown} in:\n{view}");
    }
    let again = loader().load_text(&folder.path().join("gateway.yaml"), &view).unwrap().config;
    assert_eq!(again.routes, config.routes, "what is shown means the same");
    assert_eq!(again.upstreams, config.upstreams);
}

/// One of each place that takes a secret, but for the admin's token.
const SECRETS: &str = r#"version: 1
stores:
  a: { redis: { address: "127.0.0.1:1", username: b, password: hunter2-1 } }
  "no name!": { redis: { address: "127.0.0.1:1", password: hunter2-2 } }
upstreams:
  a: { endpoints: ["127.0.0.1:1"], balance: { sticky: { cookie: b, secret: hunter2-3 } } }
identity:
  providers:
    a: { jwt: { issuer: b, audiences: [c], algorithms: [HS256], keys: { secret: hunter2-4 } } }
    b: { introspection: { url: "http://127.0.0.1:1/", client_id: c, client_secret: hunter2-5 } }
    c: { oidc: { issuer: "http://127.0.0.1:1", client_id: d, client_secret: hunter2-6, cookies: { keys: [hunter2-7] } } }
  accounts:
    a: { header: { name: b, value: hunter2-8 } }
    b: { client_credentials: { url: "http://127.0.0.1:1/", client_id: c, client_secret: hunter2-9 } }
consumers:
  a: { credentials: [{ api_key: { key: hunter2-10 } }] }
"#;

#[test]
fn the_view_shows_no_secret_under_any_name() {
    let folder = folder(&[("gateway.yaml", SECRETS)]);
    let view = loader().read(&folder.path().join("gateway.yaml")).config.view();
    assert!(!view.contains("hunter2"), "{view}");
    assert_eq!(view.matches("'***'").count(), 10, "{view}");
}

#[test]
fn places_are_exact() {
    let folder = folder(&[("gateway.yaml", GOOD)]);
    let config = loader().load(&folder.path().join("gateway.yaml")).unwrap().config;
    for (at, line, column) in [
        ("routes.orders", 14, 3),
        ("routes.orders.to", 19, 9),
        ("routes.orders.match.0.hosts.0", 15, 22),
        ("routes.orders.policies.headers", 18, 7),
        ("upstreams.orders.endpoints.1.weight", 12, 42),
        ("process.drain", 2, 19),
    ] {
        let spot = config.place(&path(at)).unwrap_or_else(|| panic!("{at}"));
        assert_eq!((spot.line, spot.column), (line, column), "{at}");
    }
    assert_eq!(config.place(&path("process.upstream_connections")), None, "a default is in no file");
    let finding = Finding::error(path("routes.orders.timeouts.total"), Problem::new("x"));
    let errors = config.errors(vec![finding]);
    let spot = &errors.iter().next().unwrap().spot;
    assert_eq!((spot.line, spot.column), (14, 3), "the nearest that is written");
}

#[test]
fn a_folder_is_one_configuration() {
    let folder = folder(&[
        ("b.yaml", "version: 1\nlisteners:\n  web: { address: 127.0.0.1:0 }\n"),
        ("a.yml", "routes:\n  a: { to: x }\nupstreams:\n  x: { endpoints: [127.0.0.1:1] }\n"),
        (".hidden.yaml", "nonsense"),
        ("notes.txt", "nonsense"),
    ]);
    let config = loader().load(folder.path()).unwrap().config;
    assert_eq!((config.routes.len(), config.listeners.len()), (1, 1));
    let files: Vec<_> = config.sources.files().map(|file| file.file_name().unwrap().to_owned()).collect();
    assert_eq!(files, ["a.yml", "b.yaml"], "by name");
    assert_eq!(config.place(&path("routes.a")).unwrap().file, folder.path().join("a.yml"));
}

#[test]
fn an_unchanged_file_is_not_parsed_again_unless_its_variables_changed() {
    struct Changing(Arc<Mutex<String>>, Arc<AtomicUsize>);
    impl Environment for Changing {
        fn get(&self, _: &str) -> Result<Option<String>, Problem> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Ok(Some(self.0.lock().unwrap().clone()))
        }
    }
    let value = Arc::new(Mutex::new("1".to_owned()));
    let folder = folder(&[
        (
            "a.yaml",
            "version: 1\nlisteners:\n  w: { address: 127.0.0.1:0 }\nroutes:\n  a: { to: { echo: {} } }\n",
        ),
        ("b.yaml", "routes:\n  b: { priority: \"${P}\", to: { echo: {} } }\n"),
    ]);
    let mut loader = Loader::new(Changing(value.clone(), Arc::default()));
    let first = loader.load(folder.path()).unwrap().config;
    let second = loader.load(folder.path()).unwrap().config;
    assert!(Arc::ptr_eq(&first.routes["a"], &second.routes["a"]));
    assert!(Arc::ptr_eq(&first.routes["b"], &second.routes["b"]));
    *value.lock().unwrap() = "2".to_owned();
    let third = loader.load(folder.path()).unwrap().config;
    assert!(Arc::ptr_eq(&first.routes["a"], &third.routes["a"]), "it uses no variable");
    assert_eq!(third.routes["b"].priority, 2);
    fs::write(folder.path().join("a.yaml"), "version: 1\nlisteners:\n  w: { address: 127.0.0.1:0 }\n")
        .unwrap();
    let fourth = loader.load(folder.path()).unwrap().config;
    assert!(Arc::ptr_eq(&third.routes["b"], &fourth.routes["b"]));
    assert!(!fourth.routes.contains_key("a"));
}

#[test]
fn a_secret_is_read_from_its_file_without_the_last_line_break() {
    for (contents, secret) in [("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), ("a\n\n", "a\n"), ("x", "x")]
    {
        let folder =
            folder(&[("g.yaml", "version: 1\nadmin: { token: { file: token } }\n"), ("token", contents)]);
        let config = loader().load(&folder.path().join("g.yaml")).unwrap().config;
        assert_eq!(config.admin.as_ref().unwrap().token.expose(), secret);
        assert!(config.files().contains(&folder.path().join("token")));
        assert!(!config.view().contains("s3cret"));
    }
}

#[test]
fn variables_are_text_in_scalars() {
    for (text, expected) in [
        ("${A}", Some("a")),
        ("x${A}y${A}", Some("xaya")),
        ("${NONE:-b}", Some("b")),
        ("${NONE:-}", Some("")),
        ("${EMPTY:-b}", Some("b")),
        ("${EMPTY}", Some("")),
        ("$A $$ a$", Some("$A $$ a$")),
        ("$${A}", Some("${A}")),
        ("$${A}${A}", Some("${A}a")),
        ("${NONE}", None),
        ("${}", None),
        ("${1A}", None),
        ("${A", None),
        ("${a-b}", None),
    ] {
        let yaml = format!("version: 1\nroutes:\n  r: {{ to: {{ respond: {{ body: '{text}' }} }} }}\n");
        let loaded = loader().load_text(Path::new("g.yaml"), &yaml);
        let body = loaded.ok().map(|loaded| match &loaded.config.routes["r"].to {
            crate::config::model::route::Target::Respond(respond) => respond.body.clone(),
            other => panic!("{other:?}"),
        });
        assert_eq!(body.as_deref(), expected, "{text}");
    }
}

#[test]
fn what_nobody_wrote_is_the_default() {
    let config = loader().load_text(Path::new("g.yaml"), "version: 1\n").unwrap().config;
    assert_eq!(config.process, crate::config::model::process::Process::default());
    assert!(config.admin.is_some());
    let off = loader().load_text(Path::new("g.yaml"), "version: 1\nadmin: off\n").unwrap().config;
    assert!(off.admin.is_none());
}

/// Other readers of the same text must not see something else in it.
#[test]
fn three_readers_agree() {
    let mut texts = vec![GOOD.replace("\"${WORKERS}\"", "4").replace("${PRIORITY:-3}", "3")];
    for folder in ["conf", "conf/examples"] {
        let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).into_iter().flatten();
        let files = files.map(|file| file.unwrap().path());
        let yaml = files.filter(|file| file.extension().is_some_and(|end| end == "yaml"));
        texts.extend(yaml.map(|file| fs::read_to_string(file).unwrap()).filter(|text| !text.contains("${")));
    }
    for text in texts {
        let tree = crate::config::tree::parse(&text).root.unwrap();
        let ours: Document = serde::Deserialize::deserialize(&tree).unwrap();
        // `off` is a word of ours, and no boolean of YAML 1.2.
        let strict = serde_saphyr::options! { strict_booleans: true };
        let saphyr: serde_json::Value = serde_saphyr::from_str_with_options(&text, strict).unwrap();
        let yaml: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        let yaml = serde_json::to_value(yaml).unwrap();
        assert_eq!(saphyr, yaml);
        let theirs: Document = serde_json::from_value(yaml).unwrap();
        assert_eq!(serde_json::to_value(&ours).unwrap(), serde_json::to_value(&theirs).unwrap());
    }
}

#[test]
fn the_schema_is_stable_and_knows_its_secrets() {
    let schema = crate::config::schema();
    assert_eq!(schema, crate::config::schema());
    assert_eq!(schema["title"], "Tollgate configuration");
    assert!(schema["$schema"].as_str().is_some_and(|draft| draft.contains("2020-12")));
    let mut keys = crate::config::secrets::Secrets::new().keys();
    keys.sort();
    keys.dedup();
    let secrets = [
        "client_secret",
        "ecdsa-p256-sha256",
        "ed25519",
        "hash",
        "hmac-sha256",
        "key",
        "password",
        "rsa-pss-sha512",
        "secret",
        "token",
        "value",
    ];
    assert_eq!(keys, secrets);
    assert!(crate::config::schema_text().ends_with("}\n"));
}

/// Every place that a mistake names is in the text.
fn assert_places(text: &str, errors: &ConfigErrors) {
    let lines: Vec<&str> = text.lines().collect();
    for error in errors {
        let line = error.spot.line as usize;
        assert!(line <= lines.len() + 1, "{error}");
        assert!(!error.path.steps().contains(&Step::Key(String::new())) || text.contains(':'));
    }
}

fn load_anything(text: &str) {
    if let Err(errors) = loader().load_text(Path::new("/nowhere/g.yaml"), text) {
        assert!(!errors.is_empty());
        assert_places(text, &errors);
        let _ = (errors.to_string(), errors.to_json());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        load_anything(&text);
    }

    #[test]
    fn no_yaml_like_text_makes_it_panic(text in "[a-z0-9:\\-\\[\\]{}&*!|>'\"#%@`,?~$ \n\t\\.]{0,120}") {
        load_anything(&format!("version: 1\n{text}"));
        load_anything(&text);
    }

    #[test]
    fn no_mutation_makes_it_panic(at in 0..GOOD.len(), length in 0..12usize, with in "[ \n:\\-{}\\[\\]a-z0-9\"']{0,6}") {
        let end = (at + length).min(GOOD.len());
        load_anything(&format!("{}{with}{}", &GOOD[..at], &GOOD[end..]));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("g.yaml");
        fs::write(&file, &bytes).unwrap();
        let _ = loader().load(&file);
    }
}

//! How long a large configuration takes to load and to load again:
//! `cargo test --profile perf --test config_load -- --ignored --nocapture`

use std::fmt::Write as _;
use std::fs;
use std::time::Instant;
use tempfile::TempDir;
use tollgate::config::Loader;

const FILES: usize = 100;
const ROUTES: usize = 1_000;

fn file(number: usize) -> String {
    let mut text = String::new();
    if number == 0 {
        text.push_str("version: 1\nlisteners:\n  web: { address: 127.0.0.1:8080 }\n");
    }
    write!(text, "upstreams:\n  u{number}: {{ endpoints: [127.0.0.1:9000, 127.0.0.1:9001] }}\nroutes:\n")
        .unwrap();
    for route in 0..ROUTES {
        write!(
            text,
            "  r{number}-{route}:\n    on: [web]\n    match:\n      hosts: [t{number}.example.com]\n      \
             path: /api/v1/{route}/{{id}}/*\n      methods: [GET, POST]\n    policies:\n      headers:\n        \
             request: {{ set: {{ x-route: \"{route}\" }} }}\n    timeouts: {{ total: 5s }}\n    to: u{number}\n"
        )
        .unwrap();
    }
    text
}

#[test]
#[ignore = "it measures, and takes seconds"]
fn a_hundred_files_of_a_thousand_routes() {
    let folder = TempDir::new().unwrap();
    for number in 0..FILES {
        fs::write(folder.path().join(format!("{number:03}.yaml")), file(number)).unwrap();
    }
    let mut loader = Loader::default();
    let mut time = |what: &str| {
        let begun = Instant::now();
        let loaded = loader.load(folder.path());
        println!("{what}: {} ms", begun.elapsed().as_millis());
        loaded
    };
    let first = time("first load").unwrap().config;
    assert_eq!(first.routes.len(), FILES * ROUTES);
    time("nothing changed").unwrap();
    fs::write(folder.path().join("050.yaml"), file(50).replace("total: 5s", "total: 6s")).unwrap();
    time("one file changed").unwrap();
    fs::write(folder.path().join("050.yaml"), file(50).replace("to: u50", "to: u500")).unwrap();
    let errors = time("one file with 1,000 mistakes").unwrap_err();
    assert_eq!(errors.errors(), ROUTES);
    fs::write(folder.path().join("050.yaml"), file(50).replace("total: 5s", "total: 5")).unwrap();
    let errors = time("one file with 1,000 values that do not fit").unwrap_err();
    assert_eq!(errors.errors(), ROUTES);
}

//! The rules of `ARCHITECTURE.md`, checked on the sources themselves.

mod facts;
mod rules;
mod samples;

use facts::Source;
use rules::{Exceptions, FILE_GUIDANCE, FUNCTION_GUIDANCE};
use std::fs;
use std::path::Path;

/// What the rules let pass, each with its reason. An entry that nothing needs any more is an error.
const EXCEPTIONS: Exceptions = Exceptions {
    // (`file` or `file: function`, reason)
    large: &[],
    // (`file: NAME`, reason)
    statics: &[
        (
            "src/allocator.rs: KEPT",
            "blocks that a worker was given back; shared, each would cost a lock or a shared cache line",
        ),
        (
            "src/telemetry/access_log/mod.rs: SCRATCH",
            "a thread's buffer for the line it formats; holds nothing between lines",
        ),
        (
            "src/telemetry/random.rs: STATE",
            "a thread's random numbers; a shared generator would be a lock or a shared cache line",
        ),
        ("src/telemetry/worker.rs: NUMBER", "a thread's number, by which it finds its own counters"),
        ("src/telemetry/worker.rs: NEXT", "hands out the threads' numbers; wrong order or gaps mean nothing"),
    ],
};

#[test]
fn the_sources_keep_the_rules() {
    let sources = read_sources();
    let violations = rules::check(&sources, &EXCEPTIONS);
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn sizes_beyond_the_guidance_are_told() {
    let sources = read_sources();
    assert!(sources.len() > 10, "only {} files were read: is the folder right?", sources.len());
    println!("more than {FILE_GUIDANCE} lines of code a file or {FUNCTION_GUIDANCE} a function (no error):");
    for (place, lines) in rules::beyond_guidance(&sources) {
        println!("{lines:5} {place}");
    }
}

fn read_sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                sources.push(Source::new(&name, &fs::read_to_string(&path).unwrap()));
            }
        }
    }
    sources.sort_by(|a, b| a.file.cmp(&b.file));
    sources
}

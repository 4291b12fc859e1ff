//! docs/cache-requirements.md: every requirement has a test that is there, or a reason why it has none.

use std::fs;
use std::path::{Path, PathBuf};

struct Row {
    line: usize,
    level: String,
    proof: String,
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string("docs/cache-requirements.md").unwrap();
    let mut rows = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", section, level, what, proof, ""] = cells[..]
            && section != "section"
            && !section.starts_with("---")
        {
            assert!(!what.is_empty(), "line {}: {line}", at + 1);
            rows.push(Row { line: at + 1, level: level.to_owned(), proof: proof.to_owned() });
        } else {
            assert!(cells.len() <= 1 || cells.len() == 6, "line {}: {line}", at + 1);
        }
    }
    rows
}

/// What a cell says in backquotes and with a module: tests.
fn named(proof: &str) -> Vec<(&str, &str)> {
    proof.split('`').skip(1).step_by(2).filter_map(|text| text.split_once("::")).collect()
}

fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

/// Whether a test of this name is in this text: an attribute that makes it one stands right above it.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(at, line)| {
        let signature = line.strip_prefix("async ").unwrap_or(line);
        let is_it = signature.strip_prefix("fn ").and_then(|rest| rest.strip_prefix(name));
        is_it.is_some_and(|rest| rest.starts_with('('))
            && lines[..at]
                .iter()
                .rev()
                .take_while(|above| above.starts_with("#[") || above.starts_with("//"))
                .any(|above| above.starts_with("#[test]") || above.starts_with("#[tokio::test"))
    })
}

fn is_of(path: &Path, module: &str) -> bool {
    path.with_extension("").components().any(|part| part.as_os_str() == module)
}

#[test]
fn every_requirement_of_the_cache_has_a_test_or_a_reason() {
    let rows = rows();
    assert!(rows.len() > 60, "{} rows", rows.len());
    let mut files = Vec::new();
    sources(Path::new("src/cache"), &mut files);
    sources(Path::new("tests"), &mut files);
    let mut missing = Vec::new();
    for Row { line, level, proof } in &rows {
        assert!(
            ["MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY"].contains(&level.as_str()),
            "line {line}: {level}"
        );
        let tests = named(proof);
        let has_reason = proof.starts_with("not followed: ") || proof.starts_with("not applicable: ");
        if tests.is_empty() && !has_reason {
            missing.push(format!("line {line}: neither a test nor a reason"));
        }
        for (module, name) in tests {
            let is_there = files.iter().any(|(path, text)| is_of(path, module) && has_test(text, name));
            if !is_there {
                missing.push(format!("line {line}: there is no test {module}::{name}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn what_is_no_test_is_none() {
    let text =
        "#[test]\nfn a() {}\nfn b() {}\n#[tokio::test(flavor = \"x\")]\n#[ignore]\nasync fn c() {}\n// fn d(";
    let found: Vec<bool> = ["a", "b", "c", "d", "e"].map(|name| has_test(text, name)).to_vec();
    assert_eq!(found, [true, false, true, false, false]);
    assert!(is_of(Path::new("src/cache/store/tests.rs"), "store") && !is_of(Path::new("src/x.rs"), "store"));
    assert_eq!(named("`a::b`, and `c` or `d::e`"), [("a", "b"), ("d", "e")]);
}

//! The rules, over what the sources say. Each violation names its place and the rule.

use super::facts::{Reference, Source};
use std::collections::BTreeSet;

/// The rooms from left to right; a room uses only rooms to its right, and never one of its own step.
const ROOMS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["server"],
    &["proxy", "admin", "background"],
    &["runtime"],
    &["compose"],
    &["listen", "routing", "upstream", "cache"],
    &["config"],
    &["policy"],
    &["identity"],
    &["message", "telemetry", "retained", "outbound"],
    &["values", "rejection", "allocator"],
];

/// Crates that bring Pingora's machinery, and the rooms that may touch it.
const PINGORA_CRATES: &[&str] = &["pingora", "pingora_core", "pingora_proxy"];
const PINGORA_ROOMS: &[&str] =
    &["proxy", "listen", "cache", "compose", "outbound", "admin", "background", "server"];
const PINGORA_FILE: &str = "src/upstream/peer.rs";

/// The only file that writes a response of our own.
const REPLY_FILE: &str = "src/proxy/reply.rs";

/// What every policy may use, and what may use every policy.
const POLICY_COMMON: &[&str] = &["shared", "config", "chain", "context"];
const POLICY_KNOWS_ALL: &[&str] = &["config", "chain", "context"];

/// Lines of code: an error needs an exception, the guidance is only told.
pub const FILE_LIMIT: usize = 600;
pub const FUNCTION_LIMIT: usize = 100;
pub const FILE_GUIDANCE: usize = 400;
pub const FUNCTION_GUIDANCE: usize = 60;

/// What may break a rule, with reasons.
#[derive(Default)]
pub struct Exceptions {
    /// Files and functions beyond the limits: `src/a.rs` or `src/a.rs: name`.
    pub large: &'static [(&'static str, &'static str)],
    /// Statics besides the allocator: `src/a.rs: NAME`.
    pub statics: &'static [(&'static str, &'static str)],
}

/// All violations, one line each.
pub fn check(sources: &[Source], exceptions: &Exceptions) -> Vec<String> {
    let shipped: Vec<&Source> = sources.iter().filter(|source| !is_test_file(source, sources)).collect();
    let policies = policy_modules(sources);
    let mut violations = Vec::new();
    for source in &shipped {
        for reference in &source.references {
            violations.extend(room_order(source, reference));
            violations.extend(policy_apart(source, reference, &policies));
            violations.extend(pingora_place(source, reference));
            violations.extend(process_exit(source, reference));
        }
        for (word, line) in &source.words {
            violations.extend(forbidden_word(source, word).map(|what| at(source, *line, &what)));
        }
        violations.extend(undeclared(source, sources));
    }
    violations.extend(statics(&shipped, exceptions.statics));
    violations.extend(sizes(&shipped, exceptions.large));
    violations
}

/// Files and functions beyond the guidance, largest first.
pub fn beyond_guidance(sources: &[Source]) -> Vec<(String, usize)> {
    let shipped: Vec<&Source> = sources.iter().filter(|source| !is_test_file(source, sources)).collect();
    let mut found = larger_than(&shipped, FILE_GUIDANCE, FUNCTION_GUIDANCE);
    found.sort_by_key(|(_, lines)| std::cmp::Reverse(*lines));
    found
}

fn at(source: &Source, line: usize, what: &str) -> String {
    format!("{}:{line}: {what}", source.file)
}

fn room(source: &Source) -> &str {
    source.module.first().map_or("", String::as_str)
}

fn step(room: &str) -> Option<usize> {
    ROOMS.iter().position(|rooms| rooms.contains(&room))
}

fn room_order(source: &Source, reference: &Reference) -> Option<String> {
    let user = room(source);
    let used = reference.path.first()?;
    if !reference.internal || user.is_empty() || user == used {
        return None;
    }
    let what = match (step(user), step(used)) {
        (None, _) => format!("`{user}` is not a room; add it to the order of rooms or move it into one"),
        (_, None) => format!("`crate::{used}` is not a room; use an item by the room it lives in"),
        (Some(from), Some(to)) if from < to => return None,
        (Some(from), Some(to)) if from == to => {
            format!("`{user}` and `{used}` are siblings and do not know each other")
        }
        _ => format!("`{user}` may not use `{used}`, which stands to its left"),
    };
    Some(at(source, reference.line, &what))
}

fn policy_modules(sources: &[Source]) -> BTreeSet<&str> {
    sources
        .iter()
        .filter(|source| room(source) == "policy")
        .filter_map(|s| s.module.get(1))
        .map(String::as_str)
        .collect()
}

fn policy_apart(source: &Source, reference: &Reference, policies: &BTreeSet<&str>) -> Option<String> {
    let [root, used, ..] = reference.path.as_slice() else { return None };
    let user = source.module.get(1)?;
    let is_between_policies =
        reference.internal && root == "policy" && room(source) == "policy" && user != used;
    let is_free = POLICY_KNOWS_ALL.contains(&user.as_str()) || POLICY_COMMON.contains(&used.as_str());
    if !is_between_policies || is_free || !policies.contains(used.as_str()) {
        return None;
    }
    let what = format!("policy `{user}` uses policy `{used}`; what both need belongs in policy/shared");
    Some(at(source, reference.line, &what))
}

fn pingora_place(source: &Source, reference: &Reference) -> Option<String> {
    let name = reference.path.first()?;
    let is_allowed = PINGORA_ROOMS.contains(&room(source)) || source.file == PINGORA_FILE;
    if reference.internal || is_allowed || !PINGORA_CRATES.contains(&name.as_str()) {
        return None;
    }
    let what = format!("`{name}` is used outside of {}, upstream/peer", PINGORA_ROOMS.join(", "));
    Some(at(source, reference.line, &what))
}

fn process_exit(source: &Source, reference: &Reference) -> Option<String> {
    if source.file == "src/main.rs" || !reference.path.ends_with(&["process".to_owned(), "exit".to_owned()]) {
        return None;
    }
    Some(at(source, reference.line, "only main.rs ends the process"))
}

fn forbidden_word(source: &Source, word: &str) -> Option<String> {
    if word.starts_with("respond_error") {
        return Some(format!("`{word}` closes the client's connection; refuse by a Rejection"));
    }
    if word.starts_with("write_response_") && source.file != REPLY_FILE {
        return Some(format!("`{word}` outside of {REPLY_FILE}, the only writer of our own responses"));
    }
    if word == "Session" && room(source) == "policy" {
        return Some("a policy never sees Pingora's `Session`".to_owned());
    }
    None
}

fn undeclared(source: &Source, sources: &[Source]) -> Option<String> {
    let (name, parent) = source.module.split_last()?;
    let parent = sources.iter().find(|candidate| candidate.module == parent)?;
    let is_declared = parent.children.iter().any(|(child, _)| child == name);
    (!is_declared && source.file != "src/main.rs")
        .then(|| at(source, 1, &format!("no `mod {name}` in {}: the file is not compiled", parent.file)))
}

/// Whether the file, or a module above it, is declared under `#[cfg(test)]`.
fn is_test_file(source: &Source, sources: &[Source]) -> bool {
    (0..source.module.len()).any(|depth| {
        let (parent, name) = (&source.module[..depth], &source.module[depth]);
        sources
            .iter()
            .filter(|candidate| candidate.module == parent)
            .any(|candidate| candidate.children.iter().any(|(child, is_test)| *is_test && child == name))
    })
}

fn statics(shipped: &[&Source], allowed: &[(&str, &str)]) -> Vec<String> {
    let found = shipped.iter().flat_map(|source| {
        source.statics.iter().map(|(name, line)| {
            let what = format!("`static {name}`: state belongs to a holder that server.rs passes on");
            (format!("{}: {name}", source.file), at(source, *line, &what))
        })
    });
    without_allowed(found.collect(), allowed)
}

fn sizes(shipped: &[&Source], allowed: &[(&str, &str)]) -> Vec<String> {
    let found = larger_than(shipped, FILE_LIMIT, FUNCTION_LIMIT).into_iter().map(|(place, lines)| {
        let what = format!("{place}: {lines} lines of code; divide it, or add an exception with a reason");
        (place, what)
    });
    without_allowed(found.collect(), allowed)
}

fn larger_than(sources: &[&Source], file_lines: usize, function_lines: usize) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for source in sources {
        if source.code_lines > file_lines {
            found.push((source.file.clone(), source.code_lines));
        }
        let functions = source.functions.iter().filter(|(_, _, lines)| *lines > function_lines);
        found.extend(functions.map(|(name, _, lines)| (format!("{}: {name}", source.file), *lines)));
    }
    found
}

/// `found` is (place, message). What is allowed goes; what is allowed for nothing is told.
fn without_allowed(found: Vec<(String, String)>, allowed: &[(&str, &str)]) -> Vec<String> {
    let stale = allowed
        .iter()
        .filter(|(place, _)| !found.iter().any(|(other, _)| other == place))
        .map(|(place, _)| format!("{place}: the exception is not needed any more; remove it"));
    let stale: Vec<String> = stale.collect();
    let is_allowed = |place: &str| allowed.iter().any(|(other, _)| *other == place);
    found.into_iter().filter(|(place, _)| !is_allowed(place)).map(|(_, what)| what).chain(stale).collect()
}

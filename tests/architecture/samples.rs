//! The rules on small sources: what they must find, and what they must let pass.

use super::facts::Source;
use super::rules::{self, Exceptions, FILE_LIMIT, FUNCTION_LIMIT};

fn check(sources: &[(&str, &str)]) -> Vec<String> {
    check_with(sources, &Exceptions::default())
}

fn check_with(sources: &[(&str, &str)], exceptions: &Exceptions) -> Vec<String> {
    let sources: Vec<Source> = sources.iter().map(|(file, text)| Source::new(file, text)).collect();
    rules::check(&sources, exceptions)
}

#[track_caller]
fn is_found(file: &str, text: &str, expected: &str) {
    let violations = check(&[(file, text)]);
    assert!(
        violations.iter().any(|violation| violation.contains(expected)),
        "{file}: `{text}` should give `{expected}`, gave {violations:?}"
    );
}

#[track_caller]
fn is_legal(file: &str, text: &str) {
    let violations = check(&[(file, text)]);
    assert!(violations.is_empty(), "{file}: `{text}` is legal, gave {violations:?}");
}

#[test]
fn a_room_to_the_left_is_found_however_it_is_named() {
    let ways = [
        "use crate::runtime::Snapshot;",
        "use crate::{values::Name, runtime::Snapshot};",
        "use crate::{runtime as r};",
        "use super::runtime::Snapshot;",
        "mod inner { use super::super::runtime::Snapshot; }",
        "fn f(s: &crate::runtime::Snapshot) {}",
        "fn f() { crate::runtime::go(); }",
        "fn f() { log::info!(\"{}\", crate::runtime::COUNT); }",
        "macro_rules! m { () => { $crate::runtime::go() }; }",
        "macro_rules! m { () => { use crate::{values::Name, runtime::go}; }; }",
        "#[serde(with = \"crate::runtime::text\")] struct S;",
        "pub use crate::runtime::Snapshot;",
        "impl crate::runtime::Compile for S {}",
        "#[cfg(not(test))] use crate::runtime::Snapshot;",
    ];
    for way in ways {
        is_found("src/config/mod.rs", way, "`config` may not use `runtime`");
    }
}

#[test]
fn the_line_is_told() {
    is_found("src/config/mod.rs", "\n\nuse crate::proxy::Gateway;", "src/config/mod.rs:3:");
}

#[test]
fn siblings_do_not_know_each_other() {
    is_found("src/routing/trie.rs", "use crate::upstream::Peer;", "siblings");
    is_found("src/rejection.rs", "use crate::values::Name;", "siblings");
}

#[test]
fn what_is_no_room_is_found() {
    is_found("src/misc.rs", "use crate::values::Name;", "`misc` is not a room");
    is_found("src/config/mod.rs", "use crate::Helper;", "`crate::Helper` is not a room");
    is_found("src/config/mod.rs", "use crate::*;", "is not a room");
}

#[test]
fn rooms_to_the_right_and_the_own_room_are_legal() {
    is_legal("src/main.rs", "fn main() -> std::process::ExitCode { tollgate::cli::main() }");
    is_legal("src/server.rs", "use crate::{admin, config, listen, proxy, values::Name};");
    is_legal(
        "src/config/model/route.rs",
        "use super::super::error::ConfigError; use crate::policy::config::P;",
    );
    is_legal("src/config/mod.rs", "pub(crate) fn f() {} pub(super) fn g() {} use self::model::Route;");
    is_legal("src/lib.rs", "pub mod config; pub mod runtime;");
    is_legal("src/config/mod.rs", "/// See [`crate::runtime::Snapshot`].\nfn f() {} // crate::runtime");
}

#[test]
fn tests_are_exempt() {
    is_legal(
        "src/config/mod.rs",
        "#[cfg(test)] mod tests { use crate::runtime::Snapshot; static S: u8 = 0; }",
    );
    is_legal("src/config/mod.rs", "#[cfg(all(test, unix))] use crate::runtime::Snapshot;");
    let outside = [
        ("src/config/mod.rs", "#[cfg(test)] mod tests;"),
        ("src/config/tests.rs", "use crate::runtime::Snapshot; mod more;"),
        ("src/config/tests/more.rs", "use crate::proxy::Gateway;"),
    ];
    assert_eq!(check(&outside), Vec::<String>::new());
}

#[test]
fn a_file_that_no_module_declares_is_found() {
    let sources = [("src/config/mod.rs", "mod source;"), ("src/config/error.rs", "fn f() {}")];
    assert_eq!(
        check(&sources),
        ["src/config/error.rs:1: no `mod error` in src/config/mod.rs: the file is not compiled"]
    );
}

#[test]
fn pingora_stays_in_its_rooms() {
    is_found("src/policy/cors.rs", "use pingora_proxy::Session;", "`pingora_proxy` is used outside");
    is_found(
        "src/upstream/balance.rs",
        "fn f(p: pingora_core::upstreams::peer::HttpPeer) {}",
        "`pingora_core`",
    );
    is_found("src/routing/mod.rs", "use pingora::prelude::*;", "`pingora` is used outside");
    is_found("src/routing/mod.rs", "use pingora_core;", "`pingora_core` is used outside");
    is_legal("src/upstream/peer.rs", "use pingora_core::upstreams::peer::HttpPeer;");
    is_legal("src/proxy/mod.rs", "use pingora_proxy::{ProxyHttp, Session};");
    is_legal("src/policy/cors.rs", "use pingora_http::RequestHeader; use pingora_error::Error;");
}

#[test]
fn one_file_writes_responses() {
    let call = "async fn f(s: &mut S) { s.write_response_header(h, true).await; }";
    is_found("src/proxy/phases/check.rs", call, "the only writer");
    is_found("src/proxy/phases/check.rs", "fn f() { call!(s.write_response_body(b)); }", "the only writer");
    is_legal("src/proxy/reply.rs", call);
    is_found("src/proxy/reply.rs", "fn f(s: &mut S) { s.respond_error(404); }", "`respond_error`");
    is_found(
        "src/proxy/reply.rs",
        "fn f(s: &mut S) { s.respond_error_with_body(404, b); }",
        "`respond_error_with_body`",
    );
}

#[test]
fn policies_know_neither_the_session_nor_each_other() {
    is_found("src/policy/cors.rs", "fn f(s: &mut Session) {}", "`Session`");
    is_legal("src/proxy/mod.rs", "fn f(s: &mut Session) {}");
    let policies = |text| {
        let headers = ("src/policy/headers/mod.rs", "");
        check(&[
            headers,
            ("src/policy/cors.rs", text),
            ("src/policy/shared.rs", ""),
            ("src/policy/context.rs", ""),
        ])
    };
    assert_eq!(
        policies("use crate::policy::headers::Edits;"),
        [
            "src/policy/cors.rs:1: policy `cors` uses policy `headers`; what both need belongs in policy/shared"
        ]
    );
    assert_eq!(policies("use super::headers::Edits;").len(), 1);
    assert_eq!(policies("use super::{Step, context::PolicyContext, shared::x};"), Vec::<String>::new());
    let assembled = [("src/policy/chain.rs", "use super::cors::Cors;"), ("src/policy/cors.rs", "")];
    assert_eq!(check(&assembled), Vec::<String>::new());
    let shared = [("src/policy/shared/a.rs", "use crate::policy::cors::Cors;"), ("src/policy/cors.rs", "")];
    assert_eq!(check(&shared).len(), 1, "what is shared does not lean on one policy");
}

#[test]
fn statics_need_a_reason() {
    is_found("src/telemetry/mod.rs", "static COUNT: AtomicU64 = AtomicU64::new(0);", "`static COUNT`");
    is_found("src/telemetry/mod.rs", "fn f() { static mut ONCE: u8 = 0; }", "`static ONCE`");
    is_found(
        "src/telemetry/mod.rs",
        "thread_local! { static LOCAL: Cell<u8> = Cell::new(0); }",
        "`static LOCAL`",
    );
    is_legal("src/main.rs", "#[global_allocator] static ALLOCATOR: MiMalloc = MiMalloc;");
    is_legal("src/telemetry/mod.rs", "const N: &'static str = \"\"; fn f() { g!(x: &'static str); }");
    let sources = [("src/telemetry/mod.rs", "static LOGGER: Logger = Logger;")];
    let exceptions = Exceptions { statics: &[("src/telemetry/mod.rs: LOGGER", "log wants one")], large: &[] };
    assert_eq!(check_with(&sources, &exceptions), Vec::<String>::new());
}

#[test]
fn main_alone_ends_the_process() {
    is_found("src/cli/mod.rs", "fn f() { std::process::exit(1); }", "only main.rs");
    is_found("src/cli/mod.rs", "use std::process::exit;", "only main.rs");
    is_found("src/cli/mod.rs", "use std::process; fn f() { process::exit(1); }", "only main.rs");
    is_legal("src/main.rs", "fn main() { std::process::exit(1); }");
}

#[test]
fn sizes_are_lines_of_shipped_code() {
    let function = |lines: usize| format!("fn long() {{\n{}}}\n", "    x();\n".repeat(lines - 2));
    is_legal("src/config/mod.rs", &function(FUNCTION_LIMIT));
    is_found("src/config/mod.rs", &function(FUNCTION_LIMIT + 1), "src/config/mod.rs: long: 101 lines");
    is_found(
        "src/config/mod.rs",
        &format!("impl S {{\n{}}}", function(FUNCTION_LIMIT + 1)),
        "long: 101 lines",
    );
    let file = |lines: usize| "const A: u8 = 0;\n".repeat(lines);
    is_legal("src/config/mod.rs", &file(FILE_LIMIT));
    is_found("src/config/mod.rs", &file(FILE_LIMIT + 1), "src/config/mod.rs: 601 lines");
    is_legal(
        "src/config/mod.rs",
        &format!("{}\n\n// a comment\n/// a docstring\n#[cfg(test)]\nmod tests {{\n}}", file(FILE_LIMIT - 1)),
    );
}

#[test]
fn exceptions_hold_and_stale_ones_are_found() {
    let long = format!("fn long() {{\n{}}}\n", "    x();\n".repeat(FUNCTION_LIMIT));
    let exceptions = Exceptions { large: &[("src/config/mod.rs: long", "a table")], statics: &[] };
    assert_eq!(check_with(&[("src/config/mod.rs", &long)], &exceptions), Vec::<String>::new());
    assert_eq!(
        check_with(&[("src/config/mod.rs", "fn long() {}")], &exceptions),
        ["src/config/mod.rs: long: the exception is not needed any more; remove it"]
    );
}

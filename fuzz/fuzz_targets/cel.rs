//! Reading a condition and asking it never panics, and no condition holds a request up.
//!
//! The input is a line with a request target, and then the condition.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::policy::context::PolicyContext;
use tollgate::policy::shared::cel::{Condition, Facts};
use tollgate::policy::shared::template::Scope;

fuzz_target!(|input: &str| {
    let (target, text) = input.split_once('\n').unwrap_or(("/", input));
    let params = ["id".to_owned()];
    let scope = Scope { params: &params, ..Scope::default() };
    let Ok(condition) = Condition::compile(text, &scope) else { return };
    let Ok(head) = pingora_http::RequestHeader::build("GET", target.as_bytes(), None) else { return };
    let mut cx = PolicyContext::new();
    cx.params.push((0, 1));
    let facts = Facts::new(&head, &cx);
    assert_eq!(condition.holds(&facts).ok(), condition.holds(&facts).ok());
});

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

#[test]
fn valid_parents_are_taken_over() {
    let table = [
        (VALID.to_owned(), 1),
        (format!("00-{TRACE}-00f067aa0ba902b7-00"), 0),
        (format!("00-{TRACE}-00f067aa0ba902b7-ff"), 3),
        (format!("01-{TRACE}-00f067aa0ba902b7-02"), 2),
        (format!("cc-{TRACE}-00f067aa0ba902b7-01-what-comes-later"), 1),
        (format!("fe-{TRACE}-00f067aa0ba902b7-01-"), 1),
    ];
    for (value, flags) in table {
        let context = TraceContext::parse(value.as_bytes()).unwrap_or_else(|| panic!("{value} is valid"));
        assert_eq!(context.trace_id().as_str(), TRACE, "{value}");
        assert_eq!(context.span_id().as_str(), "00f067aa0ba902b7", "{value}");
        assert_eq!(context.flags, flags, "{value}");
    }
}

#[test]
fn malformed_parents_are_refused() {
    let table = [
        String::new(),
        VALID[..54].to_owned(),
        format!("{VALID}-later"),
        format!("{VALID} "),
        VALID.replacen("00-", "ff-", 1),
        VALID.replacen("00-", "0-", 1),
        VALID.replacen("00-", "0g-", 1),
        VALID.replacen("00-", "01-", 1) + "x",
        VALID.to_uppercase(),
        VALID.replacen('-', "_", 1),
        format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("00-{TRACE}-00f067aa0ba902b7_01"),
        format!("00-{TRACE}-00f067aa0ba902b7-0G"),
        format!("00-{TRACE}-00F067AA0BA902B7-01"),
    ];
    for value in table {
        assert_eq!(TraceContext::parse(value.as_bytes()), None, "{value:?}");
    }
}

#[test]
fn two_parents_are_none() {
    assert!(TraceContext::of(&headers("traceparent", &[VALID])).is_some());
    assert_eq!(TraceContext::of(&headers("traceparent", &[VALID, VALID])), None);
    assert_eq!(TraceContext::of(&HeaderMap::new()), None);
}

#[test]
fn a_child_stays_in_the_trace() {
    let parent = TraceContext::parse(VALID.as_bytes()).unwrap();
    let child = parent.child();
    assert_eq!((child.trace_id(), child.flags), (parent.trace_id(), parent.flags));
    assert_ne!(child.span_id(), parent.span_id());
}

#[test]
fn traces_that_begin_here_differ() {
    let begun: HashSet<String> =
        (0..1000).map(|_| TraceContext::begin(false).trace_id().as_str().to_owned()).collect();
    assert_eq!(begun.len(), 1000);
    assert!(TraceContext::begin(true).sampled());
    assert!(!TraceContext::begin(false).sampled());
}

#[test]
fn a_valid_state_is_passed_along_as_one_value() {
    let many = (0..MAX_STATE_MEMBERS).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
    let table: &[(&[&str], &str)] = &[
        (&["rojo=00f067aa0ba902b7"], "rojo=00f067aa0ba902b7"),
        (&["rojo=1,congo=t61rcWkgMzE"], "rojo=1,congo=t61rcWkgMzE"),
        (&["rojo=1", "congo=2"], "rojo=1,congo=2"),
        (&["fw529a3039@dt=FfAf e"], "fw529a3039@dt=FfAf e"),
        (&["a=1, ,b="], "a=1, ,b="),
        (&[&many], &many),
    ];
    for (values, expected) in table {
        assert_eq!(state(&headers("tracestate", values)).unwrap(), expected, "{values:?}");
    }
}

#[test]
fn an_invalid_state_is_dropped() {
    let many = (0..=MAX_STATE_MEMBERS).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
    let long = format!("a={}", "x".repeat(257));
    let endless = ",".repeat(MAX_STATE_LENGTH + 1);
    let table: &[&[&str]] = &[
        &[],
        &[""],
        &["a"],
        &["A=1"],
        &["1a=1"],
        &["a=1=2"],
        &["a=1,a=2"],
        &["a=1", "a=2"],
        &["a@1b=1"],
        &["a@toolongasystemname=1"],
        &["a=é"],
        &[&many],
        &[&long],
        &[&endless],
        &[&endless, "a=1"],
    ];
    for values in table {
        assert_eq!(state(&headers("tracestate", values)), None, "{values:?}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(sampled: bool) {
        let context = TraceContext::begin(sampled).child();
        prop_assert_eq!(TraceContext::parse(context.header_value().as_bytes()), Some(context));
    }

    #[test]
    fn any_bytes_can_be_parsed(value: Vec<u8>, place in 0..VALID.len(), byte: u8) {
        let _ = TraceContext::parse(&value);
        let mut near = VALID.as_bytes().to_vec();
        near[place] = byte;
        if let Some(context) = TraceContext::parse(&near) {
            prop_assert!(context.trace != 0 && context.span != 0);
        }
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            let _ = state(&HeaderMap::from_iter([(http::HeaderName::from_static("tracestate"), value)]));
        }
    }
}

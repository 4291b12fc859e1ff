//! Compiling and looking up never panic, and the explanation agrees with the lookup.
//!
//! The input is lines: a host, a path and a method to ask for, then a route on each line, as
//! `host path` or `host ~expression`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::net::{IpAddr, Ipv4Addr};
use tollgate::config::model::route::{Echo, Match, Matches, Route, Target};
use tollgate::routing::{Found, Limits, Query, RouteSpec, Router, parameters};
use tollgate::values::{ListenerId, Name, RouteId};

fn route(line: &str) -> Route {
    let (host, path) = line.split_once(' ').unwrap_or(("", line));
    let hosts = if host.is_empty() { Vec::new() } else { vec![host.to_owned()] };
    let (path, path_regex) = match path.strip_prefix('~') {
        Some(expression) => (None, Some(expression.to_owned())),
        None => (Some(path.to_owned()), None),
    };
    Route {
        on: Vec::new(),
        matches: Matches(vec![Match { hosts, path, path_regex, ..Match::default() }]),
        priority: 0,
        policies: Default::default(),
        timeouts: Default::default(),
        retry: Default::default(),
        upgrades: Default::default(),
        error_pages: Default::default(),
        to: Target::Echo(Echo {}),
    }
}

fuzz_target!(|input: &str| {
    let mut lines = input.lines();
    let mut next = || lines.next().unwrap_or_default();
    let (host, path, method) = (next(), next(), next());
    let routes: Vec<Route> = lines.take(64).map(route).collect();
    let name: Name = "fuzzed".parse().expect("a name");
    let specs = routes.iter().enumerate().map(|(at, route)| RouteSpec {
        id: RouteId(at as u32),
        name: &name,
        on: None,
        route,
    });
    let (router, _) = Router::compile(specs, Limits::default());
    let head = pingora_http::RequestHeader::build("GET", b"/", None).expect("a head");
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let query = Query { listener: ListenerId(0), host, path, method, head: &head, client };
    let found = router.find(&query);
    assert_eq!(router.explain(&query).found, found);
    if let Found::Route { id, params } = found {
        let table = parameters(&routes[id.index()].matches);
        assert_eq!(table.len(), params.len());
        for slot in 0..table.len() {
            assert!(path.contains(params.get(slot, path)));
        }
    }
});

//! Routes as an API has them, ten a service, and requests for them.

use std::net::{IpAddr, Ipv4Addr};
use tollgate::config::model::route::{Echo, Match, Matches, Route, Target};
use tollgate::routing::{Found, Limits, Query, RouteSpec, Router};
use tollgate::values::{ListenerId, Name, RouteId};

/// How services are told apart.
#[derive(Clone, Copy, Debug)]
pub enum Layout {
    /// By the first segment, all on one host.
    Paths,
    /// By the host.
    Hosts,
}

const PATHS: [&str; 10] = [
    "/orders",
    "/orders/{id}",
    "/orders/{id}/items",
    "/orders/{id}/items/{item}",
    "/users",
    "/users/{id}",
    "/users/{id}/keys/{key}",
    "/files/{*rest}",
    "/health",
    "/search",
];

/// One for each of [`PATHS`].
const TARGETS: [&str; 10] = [
    "/orders",
    "/orders/4711",
    "/orders/4711/items",
    "/orders/4711/items/12",
    "/users",
    "/users/b2f1c8",
    "/users/b2f1c8/keys/9",
    "/files/2026/11/report.pdf",
    "/health",
    "/search",
];

/// The pattern of route `number`, and its host.
pub fn pattern(layout: Layout, number: usize) -> (String, String) {
    place(layout, number / PATHS.len(), PATHS[number % PATHS.len()])
}

/// A request for route `number`: path and host.
pub fn target(layout: Layout, number: usize) -> (String, String) {
    place(layout, number / TARGETS.len(), TARGETS[number % TARGETS.len()])
}

fn place(layout: Layout, service: usize, path: &str) -> (String, String) {
    match layout {
        Layout::Paths => (format!("/service-{service:05}{path}"), "api.example.com".to_owned()),
        Layout::Hosts => (path.to_owned(), format!("service-{service:05}.example.com")),
    }
}

/// Requests for routes all over the first `count`, the same number for each of [`TARGETS`].
pub fn targets(layout: Layout, count: usize, wanted: usize) -> Vec<(String, String)> {
    let services = count / TARGETS.len();
    (0..wanted)
        .map(|at| target(layout, (at * 7919 % services) * TARGETS.len() + at % TARGETS.len()))
        .collect()
}

/// The configuration of `count` routes.
pub fn routes(layout: Layout, count: usize) -> Vec<(Name, Route)> {
    (0..count)
        .map(|number| {
            let (path, host) = pattern(layout, number);
            let one = Match { hosts: vec![host], path: Some(path), ..Match::default() };
            let route = Route {
                on: Vec::new(),
                matches: Matches(vec![one]),
                priority: 0,
                policies: Default::default(),
                timeouts: Default::default(),
                retry: Default::default(),
                fallback: None,
                importance: None,
                upgrades: Vec::new(),
                error_pages: Default::default(),
                to: Target::Echo(Echo {}),
            };
            (format!("route-{number}").parse().expect("a name"), route)
        })
        .collect()
}

/// Compiles them.
pub fn compile(routes: &[(Name, Route)]) -> Router {
    let specs = routes.iter().enumerate().map(|(at, (name, route))| RouteSpec {
        id: RouteId(at as u32),
        name,
        on: None,
        route,
    });
    let (router, findings) = Router::compile(specs, Limits::default());
    assert!(findings.is_empty(), "{findings:?}");
    router
}

/// Looks one request up.
pub fn find(router: &Router, head: &pingora_http::RequestHeader, path: &str, host: &str) -> Found {
    router.find(&Query {
        listener: ListenerId(0),
        host,
        path,
        method: "GET",
        head,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
    })
}

/// A request's head.
pub fn head() -> pingora_http::RequestHeader {
    pingora_http::RequestHeader::build("GET", b"/", None).expect("a head")
}

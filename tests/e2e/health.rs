//! Probes of endpoints, and what follows from them.

use crate::harness::{Gateway, Modern, Origin, answer, get, quiet_port, wait_until};
use std::collections::HashSet;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Says its name; its `/healthz` says whether it is well.
fn origin(name: &'static str) -> (Origin, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(true));
    let says = well.clone();
    let origin = Origin::start(move |request, stream| {
        let reply = match (request.target(), says.load(Ordering::SeqCst)) {
            ("/healthz", true) => answer("200 OK", "", "all is well"),
            ("/healthz", false) => answer("500 Internal Server Error", "", "all is well"),
            ("/words", well) => answer("200 OK", "", if well { "all is well" } else { "all is lost" }),
            _ => answer("200 OK", "", name),
        };
        stream.write_all(&reply).is_ok()
    });
    (origin, well)
}

fn configuration(endpoints: &[String], settings: &str) -> String {
    let list: Vec<String> = endpoints.iter().map(|endpoint| format!("'{endpoint}'")).collect();
    format!(
        "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ endpoints: [{}], {settings} }} }}\n\
         routes: {{ all: {{ to: origin }} }}\n",
        list.join(", ")
    )
}

fn health(probe: &str, rest: &str) -> String {
    format!(
        "health: {{ active: {{ probe: {probe}, every: 40ms, timeout: 10s, healthy_after: 1, unhealthy_after: 2 }}{rest} }}"
    )
}

const HEALTHY: &str = "tollgate_upstream_healthy{upstream=\"origin\"}";

fn answers(gateway: &Gateway) -> HashSet<String> {
    (0..8)
        .map(|_| {
            let answer = get(gateway.web(), "/");
            if answer.status == 200 { answer.text() } else { answer.code() }
        })
        .collect()
}

fn set(words: &[&str]) -> HashSet<String> {
    words.iter().map(ToString::to_string).collect()
}

#[test]
fn one_that_is_not_well_gets_nothing_until_it_is() {
    for probe in
        ["{ http: { path: /healthz } }", "{ http: { path: /words, statuses: [200, 204], body: is well } }"]
    {
        let ((one, one_well), (two, _)) = (origin("one"), origin("two"));
        let endpoints = [one.address().to_string(), two.address().to_string()];
        let gateway = Gateway::start(&configuration(&endpoints, &health(probe, "")));
        assert_eq!(answers(&gateway), set(&["one", "two"]), "{probe}");
        one_well.store(false, Ordering::SeqCst);
        wait_until("it is found out", || gateway.metric(HEALTHY) == 1.0);
        assert_eq!(answers(&gateway), set(&["two"]), "{probe}");
        let shown = gateway.admin("GET", "/upstreams", "").json();
        assert_eq!(
            (&shown[0]["endpoints"][0]["healthy"], &shown[0]["panicking"]),
            (&false.into(), &false.into())
        );
        // What is known outlives a reload that changes how it is asked.
        gateway.rewrite(&configuration(&endpoints, &health(probe, "").replace("40ms", "1h")));
        assert_eq!(gateway.reload().status, 200);
        assert_eq!(answers(&gateway), set(&["two"]), "{probe}");
        gateway.rewrite(&configuration(&endpoints, &health(probe, "")));
        assert_eq!(gateway.reload().status, 200);
        one_well.store(true, Ordering::SeqCst);
        wait_until("it is well again", || gateway.metric(HEALTHY) == 2.0);
        assert_eq!(answers(&gateway), set(&["one", "two"]), "{probe}");
    }
}

#[test]
fn nobody_well_is_no_outage_unless_it_is_said_to_be() {
    for (panic, expected) in [("", set(&["one", "two"])), (", panic: 0%", set(&["no_endpoint"]))] {
        let ((one, one_well), (two, two_well)) = (origin("one"), origin("two"));
        let endpoints = [one.address().to_string(), two.address().to_string()];
        let gateway =
            Gateway::start(&configuration(&endpoints, &health("{ http: { path: /healthz } }", panic)));
        one_well.store(false, Ordering::SeqCst);
        two_well.store(false, Ordering::SeqCst);
        wait_until("it is found out", || gateway.metric(HEALTHY) == 0.0);
        wait_until("what follows from it", || answers(&gateway) == expected);
        two_well.store(true, Ordering::SeqCst);
        wait_until("one is well", || gateway.metric(HEALTHY) == 1.0);
        wait_until("and gets everything", || answers(&gateway) == set(&["two"]));
    }
}

#[test]
fn a_connection_is_enough_where_that_is_asked() {
    let (one, _) = origin("one");
    let endpoints = [one.address().to_string(), format!("127.0.0.1:{}", quiet_port())];
    let gateway = Gateway::start(&configuration(&endpoints, &health("tcp", "")));
    wait_until("the dead one is found out", || gateway.metric(HEALTHY) == 1.0);
    assert_eq!(answers(&gateway), set(&["one"]));
    assert!(one.received().iter().all(|request| request.target() == "/"), "a probe sends nothing");
}

#[test]
fn grpc_servers_are_asked_in_their_own_way() {
    let (one, two) = (Modern::clear(), Modern::clear());
    let endpoints = [one.address().to_string(), two.address().to_string()];
    let settings = |service: &str| {
        format!(
            "protocol: http2, {}",
            health(&format!("{{ grpc: {{ service: '{service}' }} }}"), ", panic: 0%")
        )
    };
    let gateway = Gateway::start(&configuration(&endpoints, &settings("orders")));
    assert_eq!(get(gateway.web(), "/").status, 200);
    gateway.rewrite(&configuration(&endpoints, &settings("down")));
    assert_eq!(gateway.reload().status, 200);
    wait_until("both say that they do not serve", || gateway.metric(HEALTHY) == 0.0);
    assert_eq!(get(gateway.web(), "/").status, 503);
    gateway.rewrite(&configuration(&endpoints, &settings("")));
    assert_eq!(gateway.reload().status, 200);
    wait_until("the server as a whole does", || gateway.metric(HEALTHY) == 2.0);
    // An error instead of an answer.
    gateway.rewrite(&configuration(&endpoints, &settings("unknown")));
    assert_eq!(gateway.reload().status, 200);
    wait_until("unknown is not well", || gateway.metric(HEALTHY) == 0.0);
}

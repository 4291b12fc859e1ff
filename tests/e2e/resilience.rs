//! Upstreams that fail: breakers, endpoints that are left out, priorities, and who answers sooner.

use crate::harness::{Client, Gateway, Origin, answer, quiet_port, wait_until};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

/// An origin that answers with a status that can be changed.
fn answering(status: &Arc<AtomicU16>) -> Origin {
    let status = Arc::clone(status);
    Origin::start(move |_, stream| {
        let line = match status.load(Ordering::SeqCst) {
            200 => "200 OK",
            503 => "503 Service Unavailable",
            _ => "500 Internal Server Error",
        };
        stream.write_all(&answer(line, "", "")).is_ok()
    })
}

fn gateway(upstream: &str) -> Gateway {
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ retry: {{ attempts: 1 }}, {upstream} }} }}\n\
         routes: {{ all: {{ to: origin }} }}\n"
    ))
}

/// Two priorities, with one endpoint each.
fn in_order(first: &str, second: &Origin) -> String {
    format!("endpoints: ['{first}', {{ address: '{}', priority: 1 }}]", second.address())
}

fn statuses(gateway: &Gateway, count: usize) -> Vec<u16> {
    let mut client = Client::new(gateway.web());
    (0..count)
        .map(|_| {
            let status = client.get("a", "/", "").status;
            // What failed with the upstream costs the connection.
            if status >= 500 {
                client = Client::new(gateway.web());
            }
            status
        })
        .collect()
}

fn metric(gateway: &Gateway, name: &str) -> f64 {
    gateway.metric(&format!("{name}{{upstream=\"origin\"}}"))
}

#[test]
fn a_breaker_opens_answers_at_once_and_closes_when_all_is_well() {
    let status = Arc::new(AtomicU16::new(500));
    let origin = answering(&status);
    let breaker = "breaker: { failures: 50%, of_at_least: 6, within: 10m, open_for: 1h, probes: 2 }";
    let gateway = gateway(&format!("endpoints: ['{}'], {breaker}", origin.address()));
    assert_eq!(statuses(&gateway, 6), [500; 6]);
    let mut client = Client::new(gateway.web());
    for _ in 0..3 {
        let refused = client.get("a", "/", "");
        assert_eq!((refused.status, refused.code().as_str()), (503, "breaker_open"));
        let after: u64 = refused.field("retry-after").unwrap().parse().unwrap();
        assert!((3500..=3600).contains(&after) && !refused.closes(), "{after}");
    }
    assert_eq!(origin.received().len(), 6, "nobody is asked");
    assert_eq!(metric(&gateway, "tollgate_upstream_breaker_open"), 1.0);
    assert_eq!(metric(&gateway, "tollgate_upstream_breaker_opened_total"), 1.0);
    // A reload does not close it.
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.rewrite(&text.replace("of_at_least: 6", "of_at_least: 7"));
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(client.get("a", "/", "").status, 503);
    assert_eq!(origin.received().len(), 6);
}

#[test]
fn trials_close_a_breaker_and_one_that_fails_opens_it_again() {
    let status = Arc::new(AtomicU16::new(500));
    let origin = answering(&status);
    let breaker = "breaker: { of_at_least: 4, within: 10m, open_for: 50ms, probes: 1 }";
    let gateway = gateway(&format!("endpoints: ['{}'], {breaker}", origin.address()));
    assert_eq!(statuses(&gateway, 4), [500; 4]);
    wait_until("a trial fails", || statuses(&gateway, 1) == [500]);
    wait_until("it is open again", || metric(&gateway, "tollgate_upstream_breaker_opened_total") >= 2.0);
    status.store(200, Ordering::SeqCst);
    wait_until("a trial goes well", || statuses(&gateway, 1) == [200]);
    assert_eq!(statuses(&gateway, 20), [200; 20]);
    assert_eq!(metric(&gateway, "tollgate_upstream_breaker_open"), 0.0);
}

#[test]
fn slow_answers_open_a_breaker_too() {
    let slow = Arc::new(AtomicBool::new(true));
    let sleeps = Arc::clone(&slow);
    let origin = Origin::start(move |_, stream| {
        if sleeps.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(60));
        }
        stream.write_all(&answer("200 OK", "", "")).is_ok()
    });
    let breaker = "breaker: { failures: 0%, slow: { after: 50ms, share: 80% }, of_at_least: 4, within: 10m, open_for: 1h }";
    let gateway = gateway(&format!("endpoints: ['{}'], {breaker}", origin.address()));
    assert_eq!(statuses(&gateway, 5), [200, 200, 200, 200, 503]);
}

#[test]
fn a_breaker_of_an_endpoint_leaves_it_to_the_others_until_it_is_well() {
    let (bad, good) = (Arc::new(AtomicU16::new(500)), Arc::new(AtomicU16::new(200)));
    let origins = [answering(&bad), answering(&good)];
    let endpoints = format!("endpoints: ['{}', '{}']", origins[0].address(), origins[1].address());
    let breaker = "endpoint_breaker: { of_at_least: 4, within: 10m, open_for: 1h, probes: 1 }";
    let gateway = gateway(&format!("{endpoints}, {breaker}"));
    let told = statuses(&gateway, 8);
    assert_eq!(told.iter().filter(|status| **status == 500).count(), 4, "in turn: {told:?}");
    assert_eq!(statuses(&gateway, 20), [200; 20]);
    assert_eq!(origins[0].received().len(), 4, "nobody asks it");
    assert_eq!(metric(&gateway, "tollgate_endpoint_breakers_open"), 1.0);
    assert_eq!(metric(&gateway, "tollgate_endpoint_breakers_opened_total"), 1.0);
    let view = gateway.admin("GET", "/upstreams", "").json();
    let states = [&view[0]["endpoints"][0]["breaker"], &view[0]["endpoints"][1]["breaker"]];
    assert_eq!(states, ["open", "closed"], "{view}");
    // Now the other one fails as well, and nobody is asked any more.
    good.store(500, Ordering::SeqCst);
    wait_until("all are open", || {
        metric(&gateway, "tollgate_endpoint_breakers_open") == 2.0 || statuses(&gateway, 1) == [503]
    });
    let refused = Client::new(gateway.web()).get("a", "/", "");
    assert_eq!((refused.status, refused.code().as_str()), (503, "breaker_open"));
    let after: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&after), "{after}");
    let asked = [&origins[0], &origins[1]].map(|origin| origin.received().len());
    assert_eq!(statuses(&gateway, 5), [503; 5]);
    assert_eq!([&origins[0], &origins[1]].map(|origin| origin.received().len()), asked);
}

#[test]
fn a_trial_that_goes_well_gives_an_endpoint_its_share_again() {
    let (bad, good) = (Arc::new(AtomicU16::new(500)), Arc::new(AtomicU16::new(200)));
    let origins = [answering(&bad), answering(&good)];
    let endpoints = format!("endpoints: ['{}', '{}']", origins[0].address(), origins[1].address());
    let breaker = "endpoint_breaker: { of_at_least: 2, within: 10m, open_for: 50ms, probes: 1 }";
    let gateway = gateway(&format!("{endpoints}, {breaker}"));
    wait_until("a trial fails", || {
        statuses(&gateway, 1);
        metric(&gateway, "tollgate_endpoint_breakers_opened_total") >= 2.0
    });
    bad.store(200, Ordering::SeqCst);
    let before = origins[0].received().len();
    wait_until("it has its share", || {
        statuses(&gateway, 1);
        origins[0].received().len() >= before + 10
    });
    assert_eq!(statuses(&gateway, 20), [200; 20]);
    assert_eq!(metric(&gateway, "tollgate_endpoint_breakers_open"), 0.0);
}

#[test]
fn an_endpoint_whose_requests_fail_is_left_out_and_the_last_one_never() {
    let (bad, good) = (Arc::new(AtomicU16::new(503)), Arc::new(AtomicU16::new(200)));
    let origins = [answering(&bad), answering(&good)];
    let endpoints = format!("endpoints: ['{}', '{}']", origins[0].address(), origins[1].address());
    let passive = "health: { passive: { consecutive_failures: 3, eject: 1h, longest: 2h } }";
    let gateway = gateway(&format!("{endpoints}, {passive}"));
    let told = statuses(&gateway, 6);
    assert_eq!(told.iter().filter(|status| **status == 503).count(), 3, "in turn: {told:?}");
    assert_eq!(statuses(&gateway, 20), [200; 20]);
    assert_eq!(origins[0].received().len(), 3);
    assert_eq!(metric(&gateway, "tollgate_upstream_ejected"), 1.0);
    // Now the other one fails as well. Somebody has to be asked.
    good.store(500, Ordering::SeqCst);
    assert_eq!(statuses(&gateway, 10), [500; 10]);
    assert_eq!(metric(&gateway, "tollgate_upstream_ejected"), 1.0);
}

#[test]
fn an_endpoint_that_is_left_out_comes_back() {
    let (bad, good) = (Arc::new(AtomicU16::new(503)), Arc::new(AtomicU16::new(200)));
    let origins = [answering(&bad), answering(&good)];
    let endpoints = format!("endpoints: ['{}', '{}']", origins[0].address(), origins[1].address());
    let passive = "health: { passive: { consecutive_failures: 1, eject: 100ms } }, slow_start: 50ms";
    let gateway = gateway(&format!("{endpoints}, {passive}"));
    wait_until("it was asked", || statuses(&gateway, 2).contains(&503));
    bad.store(200, Ordering::SeqCst);
    let before = origins[0].received().len();
    wait_until("it is asked again", || {
        statuses(&gateway, 1);
        origins[0].received().len() > before
    });
    assert_eq!(statuses(&gateway, 10), [200; 10]);
}

#[test]
fn the_next_priority_is_asked_when_the_first_has_nobody() {
    let status = Arc::new(AtomicU16::new(200));
    let origins = [answering(&status), answering(&status)];
    let endpoints = in_order(&origins[0].address().to_string(), &origins[1]);
    let running = gateway(&endpoints);
    assert_eq!(statuses(&running, 10), [200; 10]);
    assert_eq!((origins[0].received().len(), origins[1].received().len()), (10, 0));
    // Nobody is there; one attempt finds that out, and from then on the endpoint is left out.
    let endpoints = in_order(&format!("127.0.0.1:{}", quiet_port()), &origins[1]);
    let passive = "retry: { attempts: 2, backoff: 0ms..1ms }, health: { passive: { consecutive_failures: 1, eject: 1h } }";
    let failing = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ {endpoints}, {passive} }} }}\nroutes: {{ all: {{ to: origin }} }}\n"
    ));
    assert_eq!(statuses(&failing, 10), [200; 10]);
    assert_eq!(origins[1].received().len(), 10);
}

#[test]
fn who_is_not_warm_yet_leaves_nothing_to_the_next_priority() {
    let status = Arc::new(AtomicU16::new(200));
    let origins = [answering(&status), answering(&status)];
    let endpoints = in_order(&origins[0].address().to_string(), &origins[1]);
    // All are new, and will be for as long as this takes.
    let gateway = gateway(&format!("{endpoints}, slow_start: 1h"));
    assert_eq!(statuses(&gateway, 200), [200; 200]);
    assert_eq!((origins[0].received().len(), origins[1].received().len()), (200, 0));
}

#[test]
fn who_answers_sooner_gets_more() {
    let origins: Vec<Origin> = (0..4)
        .map(|at| {
            Origin::start(move |_, stream| {
                if at == 0 {
                    std::thread::park_timeout(Duration::from_millis(300));
                }
                stream.write_all(&answer("200 OK", "", "")).is_ok()
            })
        })
        .collect();
    let endpoints: Vec<String> = origins.iter().map(|origin| format!("'{}'", origin.address())).collect();
    let gateway = gateway(&format!("endpoints: [{}], balance: peak_ewma", endpoints.join(", ")));
    assert_eq!(statuses(&gateway, 80), [200; 80]);
    let slow = origins[0].received().len();
    assert!(slow <= 10, "{slow} of 80 went to the slow one, and 20 are its share");
}

/// An origin that answers what it holds when told to; then those that come later at once.
fn holding() -> (Origin, Arc<AtomicBool>) {
    let open = Arc::<AtomicBool>::default();
    let is_open = Arc::clone(&open);
    let origin = Origin::start(move |_, stream| {
        wait_until("it is let go", || is_open.load(Ordering::SeqCst));
        stream.write_all(&answer("200 OK", "", "")).is_ok()
    });
    (origin, open)
}

#[test]
fn what_an_upstream_has_no_room_for_waits_or_is_shed_and_all_room_comes_back() {
    let (origin, open) = holding();
    let limits = "limits: { requests: 2, waiting: 1, wait: 20s }";
    let gateway = gateway(&format!("endpoints: ['{}'], {limits}", origin.address()));
    let ask = |client: &mut Client| client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut inside = [(); 2].map(|()| Client::new(gateway.web()));
    inside.iter_mut().for_each(ask);
    wait_until("two are in flight", || metric(&gateway, "tollgate_upstream_in_flight") == 2.0);
    let mut waiting = Client::new(gateway.web());
    ask(&mut waiting);
    wait_until("one waits", || metric(&gateway, "tollgate_upstream_waiting") == 1.0);
    let mut late = Client::new(gateway.web());
    for _ in 0..3 {
        let answer = late.get("a", "/", "");
        assert_eq!((answer.status, answer.code().as_str()), (503, "upstream_overloaded"));
        assert_eq!(answer.field("retry-after"), Some("1"));
        assert!(!answer.closes(), "a refusal keeps the connection");
    }
    assert_eq!(metric(&gateway, "tollgate_upstream_shed_total"), 3.0);
    // One of those inside goes away, and the one that waits has its turn.
    let [gone, mut stays] = inside;
    gone.abort();
    wait_until("the one that waited is inside", || metric(&gateway, "tollgate_upstream_waiting") == 0.0);
    open.store(true, Ordering::SeqCst);
    assert_eq!((stays.read(false).status, waiting.read(false).status), (200, 200));
    wait_until("nothing is in flight", || metric(&gateway, "tollgate_upstream_in_flight") == 0.0);
    assert_eq!(late.get("a", "/", "").status, 200);
}

#[test]
fn who_matters_more_has_the_place_of_who_matters_less_which_costs_nothing() {
    const LOW: &str = "x-api-key: key-of-low-01234567890\r\n";
    const HIGH: &str = "x-api-key: key-of-high-0123456789\r\n";
    let by_plan = ("all: { to: origin }", ["/", "/"]);
    let by_route = (
        "low: { match: { path: /low }, importance: low, to: origin }, high: { match: { path: /high }, importance: high, to: origin }",
        ["/low", "/high"],
    );
    for (routes, [low, high]) in [by_plan, by_route] {
        let (origin, open) = holding();
        let policies = "authenticate: { any_of: [{ api_key: { header: x-api-key } }] }, rate_limit: { key: consumer, rate: 2/h }";
        let plans = if low == high {
            "{ less: { importance: low }, more: { importance: high } }"
        } else {
            "{ less: {}, more: {} }"
        };
        let gateway = Gateway::start(&format!(
            "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
             listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
             upstreams: {{ origin: {{ endpoints: ['{}'], limits: {{ requests: 1, waiting: 1, wait: 20s }} }} }}\n\
             plans: {plans}\n\
             consumers: {{ low: {{ plan: less, credentials: [{{ api_key: {{ key: key-of-low-01234567890 }} }}] }}, \
             high: {{ plan: more, credentials: [{{ api_key: {{ key: key-of-high-0123456789 }} }}] }} }}\n\
             policies: {{ defaults: {{ {policies} }} }}\nroutes: {{ {routes} }}\n",
            origin.address()
        ));
        let begin = |path: &str, who: &str| {
            let mut client = Client::new(gateway.web());
            client.write(format!("GET {path} HTTP/1.1\r\nhost: a\r\n{who}\r\n"));
            client
        };
        let mut inside = begin(high, HIGH);
        wait_until("one is in flight", || metric(&gateway, "tollgate_upstream_in_flight") == 1.0);
        let mut less = begin(low, LOW);
        wait_until("one waits", || metric(&gateway, "tollgate_upstream_waiting") == 1.0);
        let mut more = begin(high, HIGH);
        let put_out = less.read(false);
        assert_eq!((put_out.status, put_out.code().as_str()), (503, "upstream_overloaded"), "{routes}");
        // Where nobody matters less there is nobody to put out.
        assert_eq!(begin(low, LOW).read(false).status, 503, "{routes}");
        open.store(true, Ordering::SeqCst);
        assert_eq!((inside.read(false).status, more.read(false).status), (200, 200), "{routes}");
        wait_until("nothing is in flight", || metric(&gateway, "tollgate_upstream_in_flight") == 0.0);
        // Two were asked for and shed, and both units are there.
        let statuses = [(); 3].map(|()| begin(low, LOW).read(false).status);
        assert_eq!(statuses, [200, 200, 429], "{routes}");
    }
}

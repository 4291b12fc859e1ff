use super::*;

fn upstream(yaml: &str, retained: &Arc<Retained>) -> Upstream {
    let config: model::Upstream = serde_saphyr::from_str(yaml).unwrap();
    Upstream::compile(&"u".parse().unwrap(), &Arc::new(config), &Dns::default(), retained).unwrap().0
}

fn place(upstream: &Upstream, choice: &Choice) -> usize {
    let endpoints = upstream.endpoints();
    let endpoints = endpoints.endpoints();
    endpoints.iter().position(|it| Arc::ptr_eq(it, choice.endpoint())).unwrap()
}

fn picks(upstream: &Upstream, n: usize) -> Vec<usize> {
    (0..n).map(|_| place(upstream, &upstream.choose(None, &[]).unwrap())).collect()
}

fn state(upstream: &Upstream, at: usize) -> Arc<EndpointState> {
    upstream.endpoints().endpoints()[at].state.clone()
}

#[test]
fn weights_are_kept_and_spread() {
    let retained = Arc::<Retained>::default();
    let upstream = upstream(
        "endpoints: [{ address: '127.0.0.1:1', weight: 3 }, '127.0.0.1:2', { address: '127.0.0.1:3', weight: 0 }]",
        &retained,
    );
    assert_eq!(picks(&upstream, 8), [0, 0, 1, 0, 0, 0, 1, 0]);
}

const BALANCES: [&str; 6] = [
    "round_robin",
    "least_request",
    "random",
    "{ hash: client_ip }",
    "{ hash: { header: x-user } }",
    "{ sticky: { cookie: s } }",
];

#[test]
fn a_draining_endpoint_gets_nothing_and_a_tried_one_only_as_a_last_resort() {
    for balance in BALANCES {
        let retained = Arc::<Retained>::default();
        let yaml = format!(
            "balance: {balance}\nendpoints: ['127.0.0.1:1', '127.0.0.1:2', {{ address: '127.0.0.1:3', weight: 0 }}]"
        );
        let upstream = upstream(&yaml, &retained);
        let all = upstream.endpoints().endpoints().to_vec();
        for hint in [None, Some(0), Some(u64::MAX)] {
            for _ in 0..20 {
                let at = |tried: &[Arc<Endpoint>]| place(&upstream, &upstream.choose(hint, tried).unwrap());
                assert_eq!(at(&all[..1]), 1, "{balance}");
                assert_eq!(at(&all[1..2]), 0, "{balance}");
                assert!(at(&all[..2]) < 2, "{balance}");
                state(&upstream, 0).set_draining(true);
                assert_eq!(at(&[]), 1, "{balance}");
                assert_eq!(at(&all[1..2]), 1, "{balance}");
                state(&upstream, 0).set_draining(false);
            }
        }
        state(&upstream, 0).set_draining(true);
        state(&upstream, 1).set_draining(true);
        assert!(upstream.choose(None, &[]).is_none(), "{balance}");
    }
}

#[test]
fn state_survives_a_reload_and_in_flight_returns_to_zero() {
    let retained = Arc::<Retained>::default();
    let old = upstream("endpoints: ['127.0.0.1:1', '127.0.0.1:2']", &retained);
    state(&old, 0).set_draining(true);
    let choice = old.choose(None, &[]).unwrap();
    let new = upstream("endpoints: ['127.0.0.1:2', '127.0.0.1:1']", &retained);
    assert!(state(&new, 1).draining());
    assert_eq!(state(&new, 0).in_flight(), 1);
    drop(choice);
    assert_eq!(state(&new, 0).in_flight(), 0);
}

#[test]
fn the_less_busy_one_is_taken_by_its_weight() {
    let retained = Arc::<Retained>::default();
    let yaml = "balance: least_request\nendpoints: [{ address: '127.0.0.1:1', weight: 3 }, '127.0.0.1:2']";
    let upstream = upstream(yaml, &retained);
    let mut held = Vec::new();
    for _ in 0..400 {
        held.push(upstream.choose(None, &[]).unwrap());
    }
    assert_eq!((state(&upstream, 0).in_flight(), state(&upstream, 1).in_flight()), (300, 100));
    drop(held);
    assert_eq!((state(&upstream, 0).in_flight(), state(&upstream, 1).in_flight()), (0, 0));
}

#[test]
fn a_sticky_client_stays_until_its_endpoint_is_gone() {
    let retained = Arc::<Retained>::default();
    let yaml = |ports: &[u16]| {
        let list: Vec<String> = ports.iter().map(|port| format!("'127.0.0.1:{port}'")).collect();
        format!("balance: {{ sticky: {{ cookie: s }} }}\nendpoints: [{}]", list.join(", "))
    };
    let old = upstream(&yaml(&[1, 2, 3, 4]), &retained);
    let first = old.choose(None, &[]).unwrap();
    let id = first.endpoint().sticky_id;
    assert!(id.is_some());
    assert!(old.set_cookie(first.endpoint(), None, false).is_some());
    assert!(old.set_cookie(first.endpoint(), id, false).is_none(), "the client has it already");
    let port = first.endpoint().address.inet().unwrap().port();
    let same = upstream(&yaml(&[4, 3, 2, 1, 5]), &retained);
    for _ in 0..20 {
        let again = same.choose(id, &[]).unwrap();
        assert_eq!(again.endpoint().address, first.endpoint().address, "a reload keeps clients");
    }
    let others: Vec<u16> = [1, 2, 3, 4].into_iter().filter(|it| *it != port).collect();
    let without = upstream(&yaml(&others), &retained);
    let other = without.choose(id, &[]).unwrap();
    assert_ne!(other.endpoint().address, first.endpoint().address);
    assert!(without.set_cookie(other.endpoint(), id, false).is_some(), "and is told so");
}

#[test]
fn connections_are_shared_by_those_alone_who_secure_them_alike() {
    let key = |yaml: &str| {
        let retained = Arc::<Retained>::default();
        let upstream = upstream(&format!("endpoints: ['127.0.0.1:1']\n{yaml}"), &retained);
        let mut hasher = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(&upstream.endpoints().endpoints()[0].peer, &mut hasher);
        std::hash::Hasher::finish(&hasher)
    };
    let folder = tempfile::tempdir().unwrap();
    let authority = |file: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let path = folder.path().join(file);
        std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(path.with_extension("key"), key.serialize_pem()).unwrap();
        path
    };
    let (one, two) = (authority("one.pem"), authority("two.pem"));
    let client = |path: &std::path::Path| {
        let key = path.with_extension("key");
        format!("tls: {{ client: {{ certificate: '{}', key: '{}' }} }}", path.display(), key.display())
    };
    let apart = [
        String::new(),
        "protocol: http2".to_owned(),
        "tls: {}".to_owned(),
        "tls: {}\nprotocol: http2".to_owned(),
        "tls: {}\nprotocol: auto".to_owned(),
        "tls: { verify: off }".to_owned(),
        "tls: { server_name: a.example }".to_owned(),
        format!("tls: {{ ca: '{}' }}", one.display()),
        format!("tls: {{ ca: '{}' }}", two.display()),
        client(&one),
        client(&two),
    ];
    let keys: std::collections::HashSet<u64> = apart.iter().map(|yaml| key(yaml)).collect();
    assert_eq!(keys.len(), apart.len(), "what differs in how it is secured shares no connection");
    for yaml in &apart {
        assert_eq!(key(yaml), key(&format!("{yaml}\ntimeouts: {{ read: 3s }}\nidle_timeout: 9s")), "{yaml}");
    }
}

#[test]
fn a_server_is_never_asked_without_a_name() {
    let retained = Arc::<Retained>::default();
    for (yaml, sni) in [
        ("endpoints: ['127.0.0.1:1']\ntls: {}", "127.0.0.1"),
        ("endpoints: ['[::1]:1']\ntls: {}", "::1"),
        ("endpoints: ['127.0.0.1:1']\ntls: {}\nhost: 'a.example:8443'", "a.example"),
        ("endpoints: ['127.0.0.1:1']\ntls: { server_name: b.example. }\nhost: a.example", "b.example"),
        ("endpoints: ['unix:/x']\ntls: { server_name: b.example }", "b.example"),
        ("endpoints: ['unix:/x']\ntls: {}", "localhost"),
    ] {
        let upstream = upstream(yaml, &retained);
        assert_eq!(upstream.endpoints().endpoints()[0].peer.sni, sni, "{yaml}");
    }
}

/// What came of a request to the endpoint at this place.
fn tell(upstream: &Upstream, at: usize, failed: bool) {
    for _ in 0..1000 {
        let Some(mut choice) = upstream.choose(None, &[]) else { return };
        if place(upstream, &choice) == at {
            upstream.note(&mut choice, None, Outcome { failed, took: Duration::ZERO });
            return;
        }
    }
}

#[test]
fn an_endpoint_whose_breaker_is_open_is_left_out_and_tried_by_a_few() {
    let yaml = "endpoints: ['127.0.0.1:1', '127.0.0.1:2']\n\
                endpoint_breaker: { of_at_least: 4, within: 10m, open_for: SPAN, probes: 2 }";
    let retained = Arc::<Retained>::default();
    let open = |span: &str| upstream(&yaml.replace("SPAN", span), &retained);
    let known = open("1h");
    (0..4).for_each(|_| tell(&known, 0, true));
    assert_eq!(picks(&known, 10), [1; 10]);
    assert_eq!((known.breakers(), known.closed_for().is_some()), (Some((1, 1)), true));
    // A reload knows it still.
    let known = open("2h");
    assert_eq!(picks(&known, 10), [1; 10]);
    (0..4).for_each(|_| tell(&known, 1, true));
    assert!(known.choose(None, &[]).is_none(), "all are open");
    assert!(
        known.closed_for().is_some_and(|wait| wait > Duration::from_secs(3500)),
        "{:?}",
        known.closed_for()
    );

    // Two may try, and only they; one that comes to nothing leaves its place.
    let retained = Arc::<Retained>::default();
    let known = upstream(&yaml.replace("SPAN", "1ms"), &retained);
    (0..4).for_each(|_| tell(&known, 0, true));
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while known.breakers() != Some((0, 1)) {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    let known = upstream(&yaml.replace("SPAN", "1h"), &retained);
    let all: Vec<Choice> = (0..10).map(|_| known.choose(None, &[]).unwrap()).collect();
    let trials = |all: &[Choice]| all.iter().filter(|choice| place(&known, choice) == 0).count();
    assert_eq!(trials(&all), 2);
    drop(all);
    let mut all: Vec<Choice> = (0..10).map(|_| known.choose(None, &[]).unwrap()).collect();
    assert_eq!(trials(&all), 2, "nothing came of the first two");
    for choice in &mut all {
        known.note(choice, None, Outcome { failed: false, took: Duration::ZERO });
    }
    let share = picks(&known, 10).iter().filter(|at| **at == 0).count();
    assert!((4..=6).contains(&share), "it is closed: {share} of 10");
}

#[test]
fn breakers_of_endpoints_do_not_count_while_too_few_are_healthy() {
    let retained = Arc::<Retained>::default();
    let known = upstream(
        "endpoints: ['127.0.0.1:1', '127.0.0.1:2']\n\
         endpoint_breaker: { of_at_least: 1, open_for: 1h }\n\
         health: { active: { probe: tcp } }",
        &retained,
    );
    (0..2).for_each(|at| tell(&known, at, true));
    assert!(known.choose(None, &[]).is_none());
    known.panicking.store(true, Ordering::Relaxed);
    assert!(known.choose(None, &[]).is_some());
}

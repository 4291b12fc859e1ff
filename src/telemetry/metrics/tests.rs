use super::*;
use std::io::Write;
use std::process::{Command, Stdio};

const PUBLIC: ListenerId = ListenerId(0);

fn metrics(max_routes: usize) -> Arc<Metrics> {
    Metrics::new(&MetricsSettings { max_routes, ..MetricsSettings::default() }, 3)
}

fn answer(upstream: Option<&Arc<UpstreamMetrics>>, status: u16, millis: u64) -> Answer<'_> {
    let duration = Duration::from_millis(millis);
    Answer {
        listener: PUBLIC,
        upstream,
        class: StatusClass::of(Some(status)),
        duration,
        upstream_duration: upstream.map(|_| duration / 2),
    }
}

/// The value of a series, by its whole name as the text has it.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.scrape();
    let mut values = text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = values.next()?.parse().unwrap();
    assert_eq!(values.next(), None, "{series} stands twice");
    Some(value)
}

fn requests(route: &str, upstream: &str, class: &str) -> String {
    format!(
        "tollgate_http_requests_total{{listener=\"public\",route=\"{route}\",upstream=\"{upstream}\",class=\"{class}\"}}"
    )
}

#[test]
fn requests_are_counted_by_all_their_labels() {
    let metrics = metrics(10);
    let _listener = metrics.listener(PUBLIC, "public");
    let [orders, users]: [_; 2] = metrics.routes(["orders", "users"]).try_into().ok().unwrap();
    let upstreams = metrics.upstreams(["a", "b"]);
    orders.record(&answer(Some(&upstreams[0]), 200, 3));
    orders.record(&answer(Some(&upstreams[0]), 204, 3));
    orders.record(&answer(Some(&upstreams[1]), 502, 3));
    orders.record(&answer(None, 403, 3));
    orders.record(&Answer { class: StatusClass::of(None), ..answer(None, 200, 3) });
    metrics.unrouted().record(&answer(None, 404, 1));
    for (route, upstream, class, expected) in [
        ("orders", "a", "2xx", Some(2.0)),
        ("orders", "b", "5xx", Some(1.0)),
        ("orders", "_none", "4xx", Some(1.0)),
        ("orders", "_none", "aborted", Some(1.0)),
        ("orders", "b", "2xx", None),
        ("_none", "_none", "4xx", Some(1.0)),
    ] {
        assert_eq!(
            value(&metrics, &requests(route, upstream, class)),
            expected,
            "{route} {upstream} {class}"
        );
    }
    assert!(!metrics.scrape().contains("users"), "a route without requests has no series");
    drop(users);
}

#[test]
fn classes_follow_the_status() {
    let table = [
        (101, "1xx"),
        (200, "2xx"),
        (304, "3xx"),
        (499, "4xx"),
        (599, "5xx"),
        (99, "aborted"),
        (600, "aborted"),
    ];
    for (status, label) in table {
        assert_eq!(StatusClass::LABELS[StatusClass::of(Some(status)) as usize], label, "{status}");
    }
}

#[test]
fn durations_fall_into_their_buckets() {
    let buckets = [1, 10].map(Duration::from_millis).to_vec();
    let metrics = Metrics::new(&MetricsSettings { max_routes: 10, buckets }, 1);
    let route = metrics.routes(["orders"]).remove(0);
    let upstream = metrics.upstreams(["a"]).remove(0);
    for millis in [1, 2, 10, 11] {
        route.record(&answer(Some(&upstream), 200, millis));
    }
    for (series, expected) in [
        ("tollgate_http_request_duration_seconds_bucket{route=\"orders\",le=\"0.001\"}", 1.0),
        ("tollgate_http_request_duration_seconds_bucket{route=\"orders\",le=\"0.01\"}", 3.0),
        ("tollgate_http_request_duration_seconds_bucket{route=\"orders\",le=\"+Inf\"}", 4.0),
        ("tollgate_http_request_duration_seconds_sum{route=\"orders\"}", 0.024),
        ("tollgate_http_request_duration_seconds_count{route=\"orders\"}", 4.0),
        ("tollgate_upstream_duration_seconds_bucket{route=\"orders\",le=\"0.001\"}", 2.0),
        ("tollgate_upstream_duration_seconds_sum{route=\"orders\"}", 0.012),
    ] {
        assert_eq!(value(&metrics, series), Some(expected), "{series}");
    }
}

#[test]
fn a_route_keeps_its_counts_while_a_snapshot_has_it() {
    let metrics = metrics(10);
    let _listener = metrics.listener(PUBLIC, "public");
    let old = metrics.routes(["orders", "users"]);
    let series = requests("orders", "_none", "2xx");
    old[0].record(&answer(None, 200, 1));
    old[1].record(&answer(None, 200, 1));
    let new = metrics.routes(["orders"]);
    drop(old);
    new[0].record(&answer(None, 200, 1));
    assert_eq!(value(&metrics, &series), Some(2.0), "the route survived");
    assert!(!metrics.scrape().contains("users"), "the route has gone with its last snapshot");
    drop(new);
    assert!(!metrics.scrape().contains("orders"), "the last snapshot has gone");
    let again = metrics.routes(["orders"]);
    again[0].record(&answer(None, 200, 1));
    assert_eq!(value(&metrics, &series), Some(1.0), "a route that comes back begins anew");
}

#[test]
fn counts_go_with_their_listener_and_upstream() {
    let metrics = metrics(10);
    let listener = metrics.listener(PUBLIC, "public");
    let route = metrics.routes(["orders"]);
    let upstreams = metrics.upstreams(["a", "b"]);
    upstreams.iter().for_each(|upstream| route[0].record(&answer(Some(upstream), 200, 1)));
    let kept = metrics.upstreams(["b"]);
    drop(upstreams);
    assert_eq!(value(&metrics, &requests("orders", "a", "2xx")), None);
    assert_eq!(value(&metrics, &requests("orders", "b", "2xx")), Some(1.0));
    let _again = metrics.routes(["orders"]);
    assert_eq!(route[0].counted().unwrap().1.len(), 1, "what has gone takes no memory after a reload");
    assert_eq!(value(&metrics, &requests("orders", "b", "2xx")), Some(1.0));
    drop(listener);
    assert_eq!(value(&metrics, &requests("orders", "b", "2xx")), None);
    drop(kept);
}

#[test]
fn routes_beyond_the_limit_share_a_label() {
    let metrics = metrics(2);
    let _listener = metrics.listener(PUBLIC, "public");
    let old = metrics.routes(["a", "b", "c", "d"]);
    assert_eq!(old.iter().map(|route| route.name()).collect::<Vec<_>>(), ["a", "b", "_other", "_other"]);
    old.iter().for_each(|route| route.record(&answer(None, 200, 1)));
    assert_eq!(value(&metrics, &requests("_other", "_none", "2xx")), Some(2.0));
    let new = metrics.routes(["c", "d", "b", "e"]);
    let names: Vec<_> = new.iter().map(|route| route.name()).collect();
    assert_eq!(names, ["c", "_other", "b", "_other"], "who has a label keeps it");
    let upstreams = metrics.upstreams(["a", "b", "c"]);
    assert_eq!(upstreams.iter().map(|upstream| upstream.name()).collect::<Vec<_>>(), ["a", "b", "_other"]);
}

#[test]
fn a_snapshot_of_new_routes_is_not_held_to_the_old_ones() {
    let metrics = metrics(2);
    let _old = metrics.routes(["a", "b"]);
    let new = metrics.routes(["c", "d"]);
    assert_eq!(new.iter().map(|route| route.name()).collect::<Vec<_>>(), ["c", "d"]);
}

#[test]
fn a_route_that_nobody_asks_for_costs_little() {
    let metrics = metrics(1_000_000);
    let route = metrics.routes(["orders"]).remove(0);
    assert!(route.counted().is_none());
    assert!(size_of::<RouteMetrics>() <= 32, "{}", size_of::<RouteMetrics>());
}

#[test]
fn other_buckets_begin_anew() {
    let metrics = metrics(10);
    let old = metrics.routes(["orders"]);
    old[0].record(&answer(None, 200, 1));
    let buckets = vec![Duration::from_millis(7)];
    metrics.configure(&MetricsSettings { max_routes: 10, buckets });
    let new = metrics.routes(["orders"]);
    new[0].record(&answer(None, 200, 1));
    old[0].record(&answer(None, 200, 1));
    let series = "tollgate_http_request_duration_seconds_bucket{route=\"orders\",le=\"0.007\"}";
    assert_eq!(value(&metrics, series), Some(1.0));
    assert!(!metrics.scrape().contains("le=\"0.005\""));
}

#[test]
fn all_workers_are_summed() {
    const THREADS: u64 = 8;
    const EACH: u64 = 5000;
    let metrics = metrics(10);
    let listener = metrics.listener(PUBLIC, "public");
    let route = metrics.routes(["orders"]).remove(0);
    let upstreams = metrics.upstreams(["a", "b"]);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (route, upstream, metrics) = (&route, &upstreams[thread as usize % 2], &metrics);
            let listener = &listener;
            scope.spawn(move || {
                for _ in 0..EACH {
                    let _in_flight = listener.begin();
                    route.record(&answer(Some(upstream), 200, 1));
                    upstream.connected(true);
                    metrics.rejected("too_early");
                }
            });
        }
    });
    let half = (THREADS * EACH / 2) as f64;
    for (series, expected) in [
        (requests("orders", "a", "2xx"), half),
        (requests("orders", "b", "2xx"), half),
        ("tollgate_http_request_duration_seconds_count{route=\"orders\"}".to_owned(), 2.0 * half),
        ("tollgate_upstream_connections_total{upstream=\"a\",reused=\"true\"}".to_owned(), half),
        ("tollgate_rejections_total{code=\"too_early\"}".to_owned(), 2.0 * half),
        ("tollgate_http_in_flight{listener=\"public\"}".to_owned(), 0.0),
    ] {
        assert_eq!(value(&metrics, &series), Some(expected), "{series}");
    }
}

#[test]
fn a_request_is_in_flight_until_its_guard_goes_on_any_thread() {
    let metrics = metrics(10);
    let listener = metrics.listener(PUBLIC, "public");
    let series = "tollgate_http_in_flight{listener=\"public\"}";
    let (first, second) = (listener.begin(), listener.begin());
    assert_eq!(value(&metrics, series), Some(2.0));
    std::thread::spawn(move || drop(first)).join().unwrap();
    assert_eq!(value(&metrics, series), Some(1.0));
    drop(second);
    assert_eq!(value(&metrics, series), Some(0.0));
}

/// Metrics in which every family of the table has a series.
fn full() -> (Arc<Metrics>, impl Sized) {
    let metrics = metrics(10);
    let listener = metrics.listener(PUBLIC, "public");
    let routes = metrics.routes(["orders"]);
    let upstreams = metrics.upstreams(["a"]);
    routes[0].record(&answer(Some(&upstreams[0]), 200, 3));
    routes[0].substituted(Substitute::Respond);
    upstreams[0].connected(false);
    upstreams[0].retried();
    upstreams[0].barred();
    upstreams[0].hedged(Hedged::Won);
    metrics.rejected("route_not_found");
    metrics.denied("role_missing");
    let way = metrics.authentication("jwt", Some("main"));
    way.admitted();
    way.count("token_expired");
    listener.unseen("header_too_large");
    metrics.reloaded(ReloadOutcome::Rejected);
    metrics.set_connections_source(Box::new(|id| {
        (id == PUBLIC).then(|| Connections {
            open: 7,
            refused: vec![("client", 3)],
            handshakes_failed: vec![("not_tls", 2)],
            accept_errors: 1,
        })
    }));
    let count = EndpointCount {
        endpoints: 3,
        healthy: 2,
        failures: Some(1),
        ejected: 1,
        breaker: Some((true, 4)),
        breakers: Some((2, 6)),
        room: Some((9, 2, 16, 8)),
    };
    metrics.set_endpoints_source(Box::new(move || [("a".to_owned(), count)].into()));
    let store = StoreCount { connected: true, connect_failures: 2, calls: vec![("answered", 5)] };
    metrics.set_stores_source(Box::new(move || [("shared".to_owned(), store.clone())].into()));
    let events =
        [("hit", 3), ("written", 9), ("evicted", 0), ("damaged", 1), ("error", 0), ("passed_over", 0)];
    let disk = Some(CacheDiskCount { bytes: 8192, objects: 2, is_ill: true, events });
    let events = [("told", 3), ("heard", 5), ("lost", 1)];
    let sharing = Some(CacheSharingCount { is_connected: true, waiting: 2, events });
    let cache = CacheCount { bytes: 4096, keys: 2, stored: 9, evicted: 7, fetches: 1, disk, sharing };
    metrics.set_caches_source(Box::new(move || [("main".to_owned(), cache)].into()));
    routes[0].cached(CacheOutcome::Hit);
    routes[0].cached(CacheOutcome::Hit);
    metrics.set_limit_keys_source(Box::new(|| Some(LimitKeys { keys: 3, bytes: 4096, forgotten: 1 })));
    let keys = LimitKeys { keys: 6, bytes: 1024, forgotten: 2 };
    metrics.set_quota_keys_source(Box::new(move || {
        Some(QuotaKeys { keys, saved_at: 1_900_000_000, failures: 3 })
    }));
    metrics.set_bounded_source(Box::new(|| Some(5)));
    metrics.set_pressure_source(Box::new(|| (1, 0.25)));
    let limit = metrics.limit("routes.a.policies.rate_limit", "client_ip");
    limit.admitted();
    limit.refused();
    limit.would_refuse();
    metrics.access_log_dropped().fetch_add(3, Ordering::Relaxed);
    let (listener_name, certificate) = ("public".to_owned(), "tls/\"a\\b\".crt".to_owned());
    metrics.set_revocations_source(Box::new(|| 4));
    metrics.set_certificates(vec![CertificateExpiry {
        listener: listener_name,
        certificate,
        not_after: 1_900_000_000,
    }]);
    (metrics, (listener, routes, upstreams, (way, limit)))
}

#[test]
fn every_metric_of_the_table_is_exported() {
    let (metrics, _handles) = full();
    let text = metrics.scrape();
    for family in table::ALL {
        assert!(text.contains(&format!("# HELP {} {}\n", family.name, family.help)), "{}", family.name);
    }
    for line in [
        "tollgate_connections{listener=\"public\"} 7",
        "tollgate_authorize_denied_total{cause=\"role_missing\"} 1",
        "tollgate_auth_total{method=\"jwt\",provider=\"main\",outcome=\"admitted\"} 1",
        "tollgate_auth_total{method=\"jwt\",provider=\"main\",outcome=\"token_expired\"} 1",
        "tollgate_connections_refused_total{listener=\"public\",cause=\"client\"} 3",
        "tollgate_limit_decisions_total{place=\"routes.a.policies.rate_limit\",limit=\"client_ip\",outcome=\"refused\"} 1",
        "tollgate_concurrency_in_flight 5",
        "tollgate_quota_keys 6",
        "tollgate_quota_keys_forgotten_total 2",
        "tollgate_quota_saved_timestamp_seconds 1900000000",
        "tollgate_quota_save_failures_total 3",
        "tollgate_limit_keys 3",
        "tollgate_revocations 4",
        "tollgate_store_connected{store=\"shared\"} 1",
        "tollgate_store_connect_failures_total{store=\"shared\"} 2",
        "tollgate_store_calls_total{store=\"shared\",outcome=\"answered\"} 5",
        "tollgate_cache_bytes{cache=\"main\"} 4096",
        "tollgate_cache_keys{cache=\"main\"} 2",
        "tollgate_cache_stored_total{cache=\"main\"} 9",
        "tollgate_cache_evicted_total{cache=\"main\"} 7",
        "tollgate_cache_fetches{cache=\"main\"} 1",
        "tollgate_cache_sharing_connected{cache=\"main\"} 1",
        "tollgate_cache_sharing_waiting{cache=\"main\"} 2",
        "tollgate_cache_sharing_events_total{cache=\"main\",event=\"heard\"} 5",
        "tollgate_cache_disk_bytes{cache=\"main\"} 8192",
        "tollgate_cache_disk_ill{cache=\"main\"} 1",
        "tollgate_cache_disk_events_total{cache=\"main\",event=\"damaged\"} 1",
        "tollgate_limit_keys_forgotten_total 1",
        "tollgate_limit_memory_bytes 4096",
        "tollgate_tls_handshakes_failed_total{listener=\"public\",cause=\"not_tls\"} 2",
        "tollgate_accept_errors_total{listener=\"public\"} 1",
        "tollgate_retries_total{upstream=\"a\"} 1",
        "tollgate_fallbacks_total{route=\"orders\",by=\"respond\"} 1",
        "tollgate_upstream_healthy{upstream=\"a\"} 2",
        "tollgate_upstream_ejected{upstream=\"a\"} 1",
        "tollgate_upstream_limit{upstream=\"a\"} 16",
        "tollgate_upstream_shed_total{upstream=\"a\"} 8",
        "tollgate_upstream_breaker_open{upstream=\"a\"} 1",
        "tollgate_upstream_breaker_opened_total{upstream=\"a\"} 4",
        "tollgate_endpoint_breakers_open{upstream=\"a\"} 2",
        "tollgate_endpoint_breakers_opened_total{upstream=\"a\"} 6",
        "tollgate_retries_barred_total{upstream=\"a\"} 1",
        "tollgate_hedges_total{upstream=\"a\",outcome=\"won\"} 1",
        "tollgate_upstream_connections_total{upstream=\"a\",reused=\"false\"} 1",
        "tollgate_unseen_requests_total{listener=\"public\",cause=\"header_too_large\"} 1",
        "tollgate_reloads_total{outcome=\"rejected\"} 1",
        "tollgate_reloads_total{outcome=\"applied\"} 0",
        "tollgate_access_log_dropped_total 3",
        "tollgate_certificate_expiry_seconds{listener=\"public\",certificate=\"tls/\\\"a\\\\b\\\".crt\"} 1900000000",
    ] {
        assert!(text.lines().any(|exported| exported == line), "{line}\n{text}");
    }
}

#[test]
fn promtool_accepts_the_text() {
    let (metrics, _handles) = full();
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed (Debian's package `prometheus`)");
    promtool.stdin.take().unwrap().write_all(metrics.scrape().as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

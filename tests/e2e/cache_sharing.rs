//! Purges that gateways pass on to each other, by a real Redis server that comes, goes and forgets.

use crate::harness::{Answer, Client, Gateway, Origin, Redis, answer, send, wait_until};
use serde_json::{Value, json};
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

const LOG: &str = "tollgate:purges:default";

/// No more than docs/cache.md says that a gateway needs.
const RIGHTS: [&str; 10] = [
    "~tollgate:*",
    "+ping",
    "+select",
    "+eval",
    "+evalsha",
    "+script|load",
    "+xadd",
    "+xrange",
    "+xrevrange",
    "+xread",
];

/// Answers with its number; each is of its path's tag, and of `all` as well.
fn origin() -> Origin {
    let count = AtomicUsize::new(0);
    Origin::start(move |request, stream| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let tag = request.target().trim_start_matches('/').replace('/', "-");
        let fields = format!("cache-control: max-age=3600\r\nsurrogate-key: {tag} all\r\n");
        stream.write_all(&answer("200 OK", &fields, &format!("answer {number}"))).is_ok()
    })
}

/// Two or more that share a Redis server, as users of it whose rights can be taken away.
struct Fleet {
    redis: Redis,
    origin: Origin,
}

impl Fleet {
    fn new() -> Self {
        Self { redis: Redis::start(), origin: origin() }
    }

    fn yaml(&self, user: &str, disk: &str) -> String {
        format!(
            "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
             stores: {{ main: {{ redis: {{ address: '{}', timeout: 10s, connect_timeout: 10s, username: {user}, \
             password: secret }} }} }}\n\
             caches: {{ default: {{ memory: 8MiB, share_purges: main{disk} }} }}\n\
             listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
             upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
             routes: {{ all: {{ policies: {{ cache: {{ purge_from: [127.0.0.1], tags_from: surrogate-key, \
             grace: 1h }} }}, to: origin }} }}\n",
            self.redis.address(),
            self.origin.address(),
        )
    }

    fn permit(&self, user: &str) {
        let words = [&["ACL", "SETUSER", user, "on", ">secret"][..], &RIGHTS].concat();
        assert_eq!(self.redis.ask(&words), "OK");
    }

    /// Takes a gateway's connections, and its right to make others.
    fn cut_off(&self, user: &str) {
        assert_eq!(self.redis.ask(&["ACL", "SETUSER", user, "off"]), "OK");
        self.redis.ask(&["CLIENT", "KILL", "USER", user]);
    }

    fn start(&self, user: &str) -> Gateway {
        self.permit(user);
        let gateway = Gateway::start(&self.yaml(user, ""));
        wait_until("it hears the others", || is_connected(&gateway));
        gateway
    }
}

fn is_connected(gateway: &Gateway) -> bool {
    gateway.metric("tollgate_cache_sharing_connected{cache=\"default\"}") == 1.0
}

fn event(gateway: &Gateway, event: &str) -> f64 {
    gateway.metric(&format!("tollgate_cache_sharing_events_total{{cache=\"default\",event=\"{event}\"}}"))
}

fn purge(gateway: &Gateway, what: &Value) -> Answer {
    let body = what.to_string();
    let fields = "host: admin\r\nconnection: close\r\nauthorization: Bearer secret\r\n";
    let length = body.len();
    let request = format!("POST /caches/purge HTTP/1.1\r\n{fields}content-length: {length}\r\n\r\n{body}");
    let answer = send(gateway.at("admin"), &request);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

/// What the cache did: `hit`, `stale` or `miss`.
fn ask(gateway: &Gateway, host: &str, target: &str) -> &'static str {
    let answer = Client::new(gateway.web()).get(host, target, "");
    assert_eq!(answer.status, 200);
    let status = answer.field("cache-status").unwrap();
    match () {
        () if status.contains("hit; ttl=-") || status.contains("hit; ttl=0") => "stale",
        () if status.contains("; hit") => "hit",
        () => "miss",
    }
}

/// Fetches until it is kept.
fn fill(gateway: &Gateway, urls: &[(&str, &str)]) {
    for (host, target) in urls {
        wait_until("it is kept", || ask(gateway, host, target) == "hit");
    }
}

#[test]
fn whatever_is_purged_at_one_is_purged_at_the_others() {
    let fleet = Fleet::new();
    let (here, there) = (fleet.start("here"), fleet.start("there"));
    let urls = [("a", "/x/1"), ("a", "/x/2"), ("a", "/y"), ("b", "/x/1")];
    let cases = [
        (json!({ "url": "http://a/x/1" }), &[0][..]),
        (json!({ "prefix": "http://a/x/" }), &[0, 1]),
        (json!({ "host": "a" }), &[0, 1, 2]),
        (json!({ "tag": "x-1" }), &[0, 3]),
        (json!({ "all": true }), &[0, 1, 2, 3]),
    ];
    let mut heard = 0.0;
    for (mut what, reached) in cases {
        for soft in [true, false] {
            fill(&here, &urls);
            fill(&there, &urls);
            what["soft"] = soft.into();
            let told = purge(&here, &what).json();
            assert_eq!(told["untold"], json!([]), "{told}");
            heard += 1.0;
            wait_until("the other one hears of it", || event(&there, "heard") == heard);
            for (at, (host, target)) in urls.into_iter().enumerate() {
                let expected = match (reached.contains(&at), soft) {
                    (false, _) => "hit",
                    (true, true) => "stale",
                    (true, false) => "miss",
                };
                let done = (ask(&there, host, target), ask(&here, host, target));
                assert_eq!(done, (expected, expected), "{what}: {host}{target}");
            }
        }
    }
    fill(&there, &urls);
    let answer = Client::new(there.web()).send("PURGE /y HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!((answer.status, answer.text().as_str()), (200, "purged\n"));
    wait_until("the first one hears of it", || event(&here, "heard") == 1.0);
    assert_eq!((ask(&there, "a", "/y"), ask(&there, "a", "/x/1")), ("miss", "hit"));
    // What was heard is not passed on again: the log has what was asked for, and its beginning.
    assert_eq!((event(&here, "told"), event(&there, "told")), (10.0, 1.0));
    assert_eq!(fleet.redis.ask(&["XLEN", LOG]), "12");
    assert_eq!((event(&here, "lost"), event(&there, "lost")), (0.0, 0.0));
}

#[test]
fn who_was_cut_off_catches_up_before_it_goes_on() {
    let fleet = Fleet::new();
    let (here, there) = (fleet.start("here"), fleet.start("there"));
    let urls = [("a", "/1"), ("a", "/2"), ("a", "/3")];
    fill(&there, &urls);
    fleet.cut_off("there");
    wait_until("it is cut off", || !is_connected(&there));
    for n in 0..300 {
        purge(&here, &json!({ "url": format!("http://a/other/{n}") }));
    }
    purge(&here, &json!({ "url": "http://a/1" }));
    assert_eq!(ask(&there, "a", "/1"), "hit", "it does not know, and serves");
    // What is purged there waits.
    let answer = purge(&there, &json!({ "url": "http://a/2" })).json();
    assert_eq!(answer["untold"], json!(["default"]));
    assert_eq!(there.metric("tollgate_cache_sharing_waiting{cache=\"default\"}"), 1.0);
    fleet.permit("there");
    wait_until("it has caught up", || event(&there, "heard") == 301.0);
    assert_eq!((ask(&there, "a", "/1"), ask(&there, "a", "/3")), ("miss", "hit"));
    wait_until("its own is told", || event(&here, "heard") == 1.0);
    assert_eq!((event(&there, "lost"), event(&there, "told")), (0.0, 1.0));
}

#[test]
fn who_cannot_know_what_was_purged_purges_everything() {
    let fleet = Fleet::new();
    let (here, there) = (fleet.start("here"), fleet.start("there"));
    let urls = [("a", "/1"), ("a", "/2")];
    fill(&there, &urls);
    // So much was purged meanwhile that the log has lost what it knew.
    fleet.cut_off("there");
    wait_until("it is cut off", || !is_connected(&there));
    purge(&here, &json!({ "url": "http://a/1" }));
    fleet.redis.ask(&["XTRIM", LOG, "MAXLEN", "0"]);
    purge(&here, &json!({ "url": "http://a/x" }));
    fleet.permit("there");
    wait_until("it knows that it does not know", || event(&there, "lost") == 1.0);
    assert_eq!((ask(&there, "a", "/1"), ask(&there, "a", "/2")), ("miss", "miss"));
    // The store is emptied, while all are connected.
    fill(&there, &urls);
    let before = event(&there, "lost");
    fleet.redis.ask(&["FLUSHALL"]);
    wait_until("it is seen", || event(&there, "lost") > before);
    assert_eq!(ask(&there, "a", "/2"), "miss");
    // What nobody understands, such as a later version's, may be anything.
    wait_until("the first one has seen it too", || is_connected(&here) && is_connected(&there));
    for what in ["hard season winter", "\u{1}"] {
        fill(&there, &urls);
        let heard = event(&there, "heard");
        fleet.redis.ask(&["XADD", LOG, "*", "by", "somebody", "what", what]);
        wait_until("it is heard", || event(&there, "heard") > heard);
        assert_eq!(ask(&there, "a", "/2"), "miss", "{what}");
    }
}

#[test]
fn who_started_without_the_store_trusts_nothing_from_before() {
    let fleet = Fleet::new();
    let here = fleet.start("here");
    fleet.redis.ask(&["ACL", "SETUSER", "there", "off", ">secret"]);
    let there = Gateway::start(&fleet.yaml("there", ""));
    fill(&there, &[("a", "/1")]);
    purge(&here, &json!({ "url": "http://a/1" }));
    fleet.permit("there");
    wait_until("it hears the others", || is_connected(&there));
    assert_eq!((ask(&there, "a", "/1"), event(&there, "lost")), ("miss", 1.0));
}

#[test]
fn what_was_purged_while_a_gateway_was_down_is_not_served_from_its_disk() {
    let fleet = Fleet::new();
    let (here, folder) = (fleet.start("here"), tempfile::tempdir().unwrap());
    let disk = format!(", disk: {{ path: '{}', size: 64MiB }}", folder.path().display());
    let urls = [("a", "/1"), ("a", "/2")];
    fleet.permit("there");
    let there = Gateway::start(&fleet.yaml("there", &disk));
    fill(&there, &urls);
    purge(&here, &json!({ "url": "http://a/0" }));
    let objects = |gateway: &Gateway| gateway.metric("tollgate_cache_disk_objects{cache=\"default\"}");
    wait_until("they are written", || objects(&there) == 2.0);
    wait_until("its place is written down", || folder.path().join("heard").exists());
    there.stop();
    purge(&here, &json!({ "url": "http://a/1" }));
    let there = Gateway::start(&fleet.yaml("there", &disk));
    assert_eq!((ask(&there, "a", "/1"), ask(&there, "a", "/2")), ("miss", "hit"));
    assert_eq!(event(&there, "lost"), 0.0);
    // Without a place to begin from, or with one that is none, nothing on disk is of use.
    wait_until("it is written", || objects(&there) == 2.0);
    there.stop();
    std::fs::write(folder.path().join("heard"), "what?").unwrap();
    let there = Gateway::start(&fleet.yaml("there", &disk));
    assert_eq!((ask(&there, "a", "/1"), ask(&there, "a", "/2")), ("miss", "miss"));
}

#[test]
fn a_reload_turns_it_on_and_off() {
    let fleet = Fleet::new();
    let here = fleet.start("here");
    fleet.permit("there");
    let with = fleet.yaml("there", "");
    let without = with.replace(", share_purges: main", "");
    let there = Gateway::start(&without);
    fill(&there, &[("a", "/1")]);
    assert_eq!(purge(&there, &json!({ "url": "http://a/2" })).json()["untold"], json!([]));
    there.rewrite(&with);
    assert_eq!(there.reload().status, 200);
    assert!(is_connected(&there), "it was waited for");
    assert_eq!(ask(&there, "a", "/1"), "hit", "nothing was missed");
    purge(&here, &json!({ "url": "http://a/1" }));
    wait_until("it is heard", || event(&there, "heard") == 1.0);
    assert_eq!(ask(&there, "a", "/1"), "miss");
    there.rewrite(&without);
    assert_eq!(there.reload().status, 200);
    fill(&there, &[("a", "/1")]);
    purge(&here, &json!({ "url": "http://a/1" }));
    assert_eq!(ask(&there, "a", "/1"), "hit");
    there.rewrite(&with.replace("share_purges: main", "share_purges: mian"));
    let refused = there.reload();
    assert!(refused.text().contains("caches.default.share_purges"), "{}", refused.text());
    assert!(refused.text().contains("mian"), "{}", refused.text());
}

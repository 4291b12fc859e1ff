//! Tables of the rules; `findings` of what compiling says, `properties` of the whole against a
//! plain reference.

mod findings;
mod properties;

use super::*;
use crate::config::model::route::{Condition, Echo, Match, Matches, Route, Target};
use crate::values::{Finding, Name, Severity};
use pingora_http::RequestHeader;
use std::collections::BTreeMap;

const PUBLIC: ListenerId = ListenerId(0);
const ADMIN: ListenerId = ListenerId(1);

/// A route under test: its name, what it says, and its listeners.
#[derive(Clone, Debug)]
struct Case {
    name: Name,
    on: Option<Vec<ListenerId>>,
    route: Route,
}

fn case(name: &str, matches: Vec<Match>) -> Case {
    let route = Route {
        on: Vec::new(),
        matches: Matches(matches),
        priority: 0,
        policies: Default::default(),
        timeouts: Default::default(),
        retry: Default::default(),
        fallback: None,
        importance: None,
        upgrades: Vec::new(),
        error_pages: BTreeMap::new(),
        to: Target::Echo(Echo {}),
    };
    Case { name: name.parse().unwrap(), on: None, route }
}

fn path(path: &str) -> Match {
    Match { path: Some(path.to_owned()), ..Match::default() }
}

fn regex(expression: &str) -> Match {
    Match { path_regex: Some(expression.to_owned()), ..Match::default() }
}

impl Match {
    fn hosts(mut self, hosts: &[&str]) -> Self {
        self.hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        self
    }
    fn methods(mut self, methods: &[&str]) -> Self {
        self.methods = methods.iter().map(|method| (*method).to_owned()).collect();
        self
    }
    fn header(mut self, name: &str, condition: Condition) -> Self {
        self.headers.insert(name.to_owned(), condition);
        self
    }
    fn query(mut self, name: &str, condition: Condition) -> Self {
        self.query.insert(name.to_owned(), condition);
        self
    }
    fn cookie(mut self, name: &str, condition: Condition) -> Self {
        self.cookies.insert(name.to_owned(), condition);
        self
    }
    fn client(mut self, networks: &[&str]) -> Self {
        self.client = networks.iter().map(|network| network.parse().unwrap()).collect();
        self
    }
}

impl Case {
    fn priority(mut self, priority: i32) -> Self {
        self.route.priority = priority;
        self
    }
    fn on(mut self, listeners: &[ListenerId]) -> Self {
        self.on = Some(listeners.to_vec());
        self
    }
}

fn exact(text: &str) -> Condition {
    Condition::Exact(text.to_owned())
}

/// One route for each path, named after its place.
fn of_paths(paths: &[&str]) -> Vec<Case> {
    paths.iter().enumerate().map(|(at, text)| case(&format!("r{at}"), vec![path(text)])).collect()
}

fn compile(cases: &[Case]) -> (Router, Vec<Finding>) {
    let specs = cases.iter().enumerate().map(|(at, case)| RouteSpec {
        id: RouteId(at as u32),
        name: &case.name,
        on: case.on.clone(),
        route: &case.route,
    });
    Router::compile(specs, Limits::default())
}

fn router(cases: &[Case]) -> Router {
    let (router, findings) = compile(cases);
    let errors: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    router
}

/// A request under test.
#[derive(Clone, Debug)]
struct Request {
    listener: ListenerId,
    host: String,
    target: String,
    method: String,
    headers: Vec<(String, String)>,
    client: IpAddr,
}

fn get(target: &str) -> Request {
    Request {
        listener: PUBLIC,
        host: "api.example.com".to_owned(),
        target: target.to_owned(),
        method: "GET".to_owned(),
        headers: Vec::new(),
        client: "192.0.2.1".parse().unwrap(),
    }
}

impl Request {
    fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }
    fn method(mut self, method: &str) -> Self {
        self.method = method.to_owned();
        self
    }
    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
    fn client(mut self, client: &str) -> Self {
        self.client = client.parse().unwrap();
        self
    }
    fn on(mut self, listener: ListenerId) -> Self {
        self.listener = listener;
        self
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// Asks with this request's query.
    fn ask<T>(&self, question: impl FnOnce(&Query) -> T) -> T {
        let mut head = RequestHeader::build("GET", self.target.as_bytes(), None).unwrap();
        for (name, value) in &self.headers {
            head.append_header(name.clone(), value.as_str()).unwrap();
        }
        question(&Query {
            listener: self.listener,
            host: &self.host,
            path: self.path(),
            method: &self.method,
            head: &head,
            client: self.client,
        })
    }

    /// What is found: the route's name, `405 …` or `404`.
    fn found(&self, router: &Router, cases: &[Case]) -> String {
        match self.ask(|query| router.find(query)) {
            Found::Route { id, .. } => cases[id.index()].name.to_string(),
            Found::MethodNotAllowed(allowed) => format!("405 {allowed}"),
            Found::NotFound => "404".to_owned(),
        }
    }
}

#[track_caller]
fn assert_found(cases: &[Case], expected: &[(Request, &str)]) {
    let router = router(cases);
    for (request, name) in expected {
        assert_eq!(request.found(&router, cases), *name, "{request:?}");
    }
}

/// The route's parameters by name.
fn bound(cases: &[Case], request: &Request) -> Vec<(String, String)> {
    let router = router(cases);
    let Found::Route { id, params } = request.ask(|query| router.find(query)) else {
        panic!("{request:?} is on no route");
    };
    let table = parameters(&cases[id.index()].route.matches);
    assert_eq!(table.len(), params.len());
    let value = |slot| params.get(slot, request.path()).to_owned();
    table.into_iter().enumerate().map(|(slot, name)| (name, value(slot))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_path_holds_at_segment_borders() {
    for (pattern, hits, misses) in [
        ("/", vec!["/"], vec!["/a", "//"]),
        ("/orders", vec!["/orders"], vec!["/orders/", "/ordersX", "/orders/1", "/order", "/Orders", "/"]),
        ("/orders/", vec!["/orders/"], vec!["/orders", "/orders/1", "/orders//"]),
        (
            "/orders/{id}",
            vec!["/orders/1", "/orders/a.b"],
            vec!["/orders", "/orders/", "/orders/1/", "/orders/1/2"],
        ),
        (
            "/orders/*",
            vec!["/orders", "/orders/", "/orders/1", "/orders/1/2/", "/orders//x"],
            vec!["/ordersX", "/"],
        ),
        ("/orders/{*rest}", vec!["/orders", "/orders/", "/orders/1/2"], vec!["/ordersX", "/x/orders"]),
        ("/{a}/x/{b}", vec!["/1/x/2"], vec!["/1/y/2", "//x/2", "/1/x/", "/1/x"]),
        ("/*", vec!["/", "/a", "/a/b/"], vec![]),
        ("/{*rest}", vec!["/", "/a"], vec![]),
    ] {
        let cases = of_paths(&[pattern]);
        let router = router(&cases);
        for hit in hits {
            assert_eq!(get(hit).found(&router, &cases), "r0", "{pattern} {hit}");
        }
        for miss in misses {
            assert_eq!(get(miss).found(&router, &cases), "404", "{pattern} {miss}");
        }
    }
}

#[test]
fn a_route_without_conditions_takes_everything() {
    let cases = [case("all", vec![Match::default()])];
    assert_found(&cases, &[(get("/"), "all"), (get("/a/b").host("").method("BREW"), "all")]);
}

#[test]
fn what_is_no_path_is_on_no_route() {
    let cases = of_paths(&["/*"]);
    let router = router(&cases);
    let head = RequestHeader::build("OPTIONS", b"*", None).unwrap();
    let client = "192.0.2.1".parse().unwrap();
    for path in ["*", "", "a"] {
        let query = Query { listener: PUBLIC, host: "", path, method: "OPTIONS", head: &head, client };
        assert_eq!(router.find(&query), Found::NotFound, "{path}");
    }
}

#[test]
fn parameters_are_parts_of_the_path() {
    for (pattern, target, expected) in [
        ("/orders/{id}", "/orders/17", vec![("id", "17")]),
        ("/{b}/{a}", "/1/2", vec![("a", "2"), ("b", "1")]),
        ("/orders/{*rest}", "/orders", vec![("rest", "")]),
        ("/orders/{*rest}", "/orders/", vec![("rest", "")]),
        ("/orders/{*rest}", "/orders/1/2/", vec![("rest", "1/2/")]),
        ("/{id}/x/{*rest}", "/7/x/y", vec![("id", "7"), ("rest", "y")]),
        ("/{*rest}", "/", vec![("rest", "")]),
        ("/orders/{id}/*", "/orders/1/2", vec![("id", "1")]),
        ("/orders", "/orders", vec![]),
    ] {
        assert_eq!(bound(&of_paths(&[pattern]), &get(target)), pairs(&expected), "{pattern} {target}");
    }
}

#[test]
fn a_parameter_is_what_every_alternative_binds() {
    let cases = [case(
        "a",
        vec![path("/x/{id}/{extra}"), path("/y/{other}/{id}"), regex("/z/(?<id>[0-9]+)(-(?<n>.*))?")],
    )];
    assert_eq!(parameters(&cases[0].route.matches), ["id"]);
    for target in ["/x/7/1", "/y/1/7", "/z/7", "/z/7-1"] {
        assert_eq!(bound(&cases, &get(target)), pairs(&[("id", "7")]), "{target}");
    }
}

#[test]
fn sixteen_parameters_and_a_rest_are_bound() {
    let names: Vec<String> = (0..15).map(|n| format!("{{p{n:02}}}")).collect();
    let cases = of_paths(&[&format!("/{}/{{*rest}}", names.join("/"))]);
    let values: Vec<String> = (0..15).map(|n| n.to_string()).collect();
    let bound = bound(&cases, &get(&format!("/{}/x/y", values.join("/"))));
    assert_eq!(bound.len(), MAX_PARAMETERS);
    assert_eq!(bound[14], ("p14".to_owned(), "14".to_owned()));
    assert_eq!(bound[15], ("rest".to_owned(), "x/y".to_owned()));
}

#[test]
fn hosts() {
    let cases = [
        case("exact", vec![path("/").hosts(&["API.example.com."])]),
        case("wild", vec![path("/").hosts(&["*.example.com"])]),
        case("v6", vec![path("/").hosts(&["[2001:DB8:0::1]"])]),
        case("v4", vec![path("/").hosts(&["192.0.2.1"])]),
        case("any", vec![path("/")]),
    ];
    for (host, name) in [
        ("api.example.com", "exact"),
        ("API.Example.COM", "exact"),
        ("api.example.com.", "exact"),
        ("api.example.com:8080", "exact"),
        ("api.example.com.:8080", "exact"),
        ("api.example.com:", "exact"),
        ("web.example.com", "wild"),
        ("WEB.example.com:443", "wild"),
        ("a.b.example.com", "any"),
        ("example.com", "any"),
        (".example.com", "any"),
        ("api.example.com:x", "any"),
        ("api.example.com..", "any"),
        ("[2001:db8::1]", "v6"),
        ("[2001:db8::1]:8443", "v6"),
        ("[2001:DB8:0:0:0:0:0:1]", "v6"),
        ("[2001:db8::2]", "any"),
        ("[2001:db8::1", "any"),
        ("2001:db8::1", "any"),
        ("[", "any"),
        ("192.0.2.1:80", "v4"),
        ("", "any"),
        (":80", "any"),
    ] {
        assert_found(&cases, &[(get("/").host(host), name)]);
    }
    let long = format!("{}A.example.com", "a".repeat(300));
    assert_found(&cases, &[(get("/").host(&long), "any")]);
}

#[test]
fn precedence_of_priority_host_and_path() {
    let on_api = |name: &str, m: Match| case(name, vec![m.hosts(&["api.example.com"])]);
    let on_wild = |name: &str, m: Match| case(name, vec![m.hosts(&["*.example.com"])]);
    let cases = [
        case("any-literal", vec![path("/a/b")]),
        on_wild("wild-prefix", path("/a/*")),
        on_api("exact-prefix", path("/a/*")),
        on_api("exact-regex", regex("/[bc]/c/d")),
        on_api("exact-x-regex", regex("/x/.*")),
        on_wild("wild-literal", path("/x/y")),
        case("high", vec![path("/a/b/{*rest}")]).priority(1),
        case("low", vec![path("/low").hosts(&["api.example.com"])]).priority(-1),
        case("any-low", vec![path("/low/*")]).priority(-1),
        case("any-normal", vec![path("/{x}").hosts(&["*.example.com"])]),
    ];
    assert_found(
        &cases,
        &[
            (get("/a/b"), "high"),
            (get("/a/b/c"), "high"),
            (get("/a/c"), "exact-prefix"),
            (get("/a/c/d"), "exact-prefix"),
            (get("/b/c/d"), "exact-regex"),
            (get("/x/y"), "exact-x-regex"),
            (get("/x/y").host("web.example.com"), "wild-literal"),
            (get("/a/c").host("web.example.com"), "wild-prefix"),
            (get("/a/c").host("other.example"), "404"),
            (get("/low"), "any-normal"),
            (get("/low/1"), "any-low"),
        ],
    );
}

#[test]
fn precedence_of_paths_from_the_left() {
    let cases = of_paths(&[
        "/{a}/b/c", "/a/{b}/c", "/a/*", "/{a}/*", "/a/b", "/a/{b}", "/a", "/*", "/a/b/", "/a/{b}/*",
    ]);
    assert_found(
        &cases,
        &[
            (get("/a"), "r6"),
            (get("/a/"), "r2"),
            (get("/a/b"), "r4"),
            (get("/a/b/"), "r8"),
            (get("/a/x"), "r5"),
            (get("/a/x/"), "r9"),
            (get("/a/b/c"), "r1"),
            (get("/x/b/c"), "r0"),
            (get("/x/b/d"), "r3"),
            (get("/x"), "r3"),
            (get("/"), "r7"),
        ],
    );
}

#[test]
fn more_conditions_come_first() {
    let cases = [
        case("none", vec![path("/")]),
        case("method", vec![path("/").methods(&["GET"])]),
        case("two", vec![path("/").header("x-a", exact("1")).query("q", exact("1"))]),
        case("three", vec![path("/").methods(&["GET"]).header("x-a", exact("1")).query("q", exact("1"))]),
    ];
    assert_found(
        &cases,
        &[
            (get("/?q=1").header("x-a", "1"), "three"),
            (get("/?q=1").header("x-a", "1").method("POST"), "two"),
            (get("/?q=1"), "method"),
            (get("/").method("POST"), "none"),
        ],
    );
}

#[test]
fn matching_goes_on_after_a_failure() {
    let cases = [
        case("header", vec![path("/a/b").header("x-a", exact("1"))]),
        case("method", vec![path("/a/{id}").methods(&["PUT"])]),
        case("listener", vec![path("/a/*")]).on(&[ADMIN]),
        case("rest", vec![path("/{*rest}")]),
        case("high", vec![path("/a/*").client(&["198.51.100.0/24"])]).priority(9),
    ];
    assert_found(
        &cases,
        &[
            (get("/a/b").header("x-a", "1"), "header"),
            (get("/a/b").method("PUT"), "method"),
            (get("/a/b").on(ADMIN), "listener"),
            (get("/a/b"), "rest"),
            (get("/a/b").header("x-a", "1").client("198.51.100.7"), "high"),
        ],
    );
}

#[test]
fn a_dead_end_in_the_trie_gives_back_its_parameters() {
    let cases = of_paths(&["/{a}/{b}/{c}/x", "/{a}/{*rest}"]);
    assert_eq!(bound(&cases, &get("/1/2/3/y")), pairs(&[("a", "1"), ("rest", "2/3/y")]));
}

#[test]
fn a_regular_expression_matches_the_whole_path() {
    let cases = [case("r", vec![regex("/a|/b/(?<id>[0-9]+)")])];
    assert_found(
        &cases,
        &[
            (get("/a"), "r"),
            (get("/b/1"), "r"),
            (get("/ab"), "404"),
            (get("/b/1x"), "404"),
            (get("/x/a"), "404"),
        ],
    );
    assert_eq!(bound(&cases, &get("/b/17")), pairs(&[("id", "17")]));
    assert_eq!(bound(&cases, &get("/a")), pairs(&[("id", "")]), "a group that took no part is empty");
}

#[test]
fn conditions() {
    let prefix = |text: &str| Condition::Prefix(text.to_owned());
    let like = |text: &str| Condition::Regex(text.to_owned());
    let there = Condition::Present(true);
    let absent = Condition::Present(false);
    let x = |value: &str| get("/").header("x-a", value);
    let cookie = |value: &str| get("/").header("cookie", value);
    for (condition, hits, misses) in [
        (
            path("/").header("X-A", exact("1")),
            vec![x("1")],
            vec![get("/"), x("11"), x("1").header("x-a", "1")],
        ),
        (path("/").header("x-a", exact("1, 2")), vec![x("1, 2"), x("1").header("x-a", "2")], vec![x("1,2")]),
        (
            path("/").header("x-a", prefix("ab")),
            vec![x("ab"), x("abc"), x("ab").header("x-a", "c")],
            vec![x("a"), x("b")],
        ),
        (path("/").header("x-a", like("a+")), vec![x("a"), x("aa")], vec![x("ab"), x("ba"), get("/")]),
        (path("/").header("x-a", there.clone()), vec![x(""), x("1").header("x-a", "2")], vec![get("/")]),
        (path("/").header("x-a", absent.clone()), vec![get("/")], vec![x(""), x("1").header("x-a", "2")]),
        (
            path("/").query("q", exact("a b")),
            vec![get("/?q=a+b"), get("/?q=a%20b"), get("/?x=1&%71=%61+b&q=2")],
            vec![get("/"), get("/?q=a%2Bb"), get("/?q"), get("/?q=x&q=a+b"), get("/?Q=a+b")],
        ),
        (path("/").query("q", prefix("a+")), vec![get("/?q=a%2Bb")], vec![get("/?q=a+b"), get("/?q=a")]),
        (
            path("/").query("q", like("é ?")),
            vec![get("/?q=%C3%A9"), get("/?q=%C3%A9+")],
            vec![get("/?q=e"), get("/?")],
        ),
        (
            path("/").query("q", there.clone()),
            vec![get("/?q"), get("/?a&q=")],
            vec![get("/?qq"), get("/?=q"), get("/")],
        ),
        (path("/").query("q", absent), vec![get("/"), get("/?qq=1")], vec![get("/?q")]),
        (
            path("/").cookie("a", exact("1")),
            vec![cookie("a=1"), cookie("b=2; a=1"), cookie("b=2").header("cookie", "a=1"), cookie("b;a=1;c")],
            vec![cookie("a=2; a=1"), cookie("A=1"), cookie("ba=1"), cookie("a"), cookie("ab=1"), get("/")],
        ),
        (path("/").cookie("a", there), vec![cookie("a=")], vec![cookie("a"), cookie("b=a")]),
        (
            path("/").client(&["192.0.2.0/24", "2001:db8::/32"]),
            vec![get("/"), get("/").client("::ffff:192.0.2.9"), get("/").client("2001:db8::5")],
            vec![get("/").client("198.51.100.1"), get("/").client("::1")],
        ),
    ] {
        let cases = [case("hit", vec![condition.clone()])];
        let hits = hits.into_iter().map(|request| (request, "hit"));
        let misses = misses.into_iter().map(|request| (request, "404"));
        assert_found(&cases, &hits.chain(misses).collect::<Vec<_>>());
    }
}

#[test]
fn a_method_that_no_route_takes() {
    let cases = [
        case("read", vec![path("/a").methods(&["GET"])]),
        case("write", vec![path("/a").methods(&["PUT", "BREW"])]),
        case("below", vec![path("/{x}").methods(&["DELETE"])]),
        case("mobile", vec![path("/a").methods(&["PATCH"]).header("x-a", exact("1"))]),
        case("admin", vec![path("/a").methods(&["TRACE"])]).on(&[ADMIN]),
    ];
    assert_found(
        &cases,
        &[
            (get("/a").method("HEAD"), "read"),
            (get("/a").method("BREW"), "write"),
            (get("/a").method("POST"), "405 BREW, DELETE, GET, HEAD, PUT"),
            (get("/a").method("OPTIONS"), "405 BREW, DELETE, GET, HEAD, PUT"),
            (get("/a").method("get"), "405 BREW, DELETE, GET, HEAD, PUT"),
            (get("/a").method("PATCH"), "405 BREW, DELETE, GET, HEAD, PUT"),
            (get("/a").method("POST").header("x-a", "1"), "405 BREW, DELETE, GET, HEAD, PATCH, PUT"),
            (get("/a").method("POST").on(ADMIN), "405 BREW, DELETE, GET, HEAD, PUT, TRACE"),
            (get("/b").method("GET"), "405 DELETE"),
            (get("/b/c").method("GET"), "404"),
        ],
    );
    let Found::MethodNotAllowed(allowed) = get("/b").ask(|query| router(&cases).find(query)) else {
        panic!("405 was expected");
    };
    assert_eq!(allowed.header_value(), "DELETE");
}

#[test]
fn a_condition_that_fails_gives_404_and_not_405() {
    let cases = [case("a", vec![path("/").methods(&["PUT"]).header("x-a", exact("1"))])];
    assert_found(&cases, &[(get("/"), "404"), (get("/").header("x-a", "1"), "405 PUT")]);
    let cases = [case("a", vec![regex("/a+").methods(&["PUT"])])];
    assert_found(&cases, &[(get("/b"), "404"), (get("/a"), "405 PUT"), (get("/a").method("PUT"), "a")]);
}

#[test]
fn head_by_name_comes_before_head_by_get() {
    let cases =
        [case("get", vec![path("/").methods(&["GET"])]), case("head", vec![path("/").methods(&["HEAD"])])];
    assert_found(&cases, &[(get("/"), "get"), (get("/").method("HEAD"), "head")]);
}

#[test]
fn listeners() {
    let cases = [
        case("public", vec![path("/")]).on(&[PUBLIC]),
        case("admin", vec![path("/")]).on(&[ADMIN]),
        case("nowhere", vec![path("/x")]).on(&[]),
    ];
    assert_found(&cases, &[(get("/"), "public"), (get("/").on(ADMIN), "admin"), (get("/x"), "404")]);
    assert_found(&cases, &[(get("/").on(ListenerId(9)), "404")]);
}

#[test]
fn an_explanation_has_all_in_order() {
    let cases = [
        case("any", vec![path("/a")]),
        case("prefix", vec![path("/b"), path("/a/*").hosts(&["api.example.com"])]),
        case("regex", vec![regex("/[b-z]").hosts(&["api.example.com"])]),
        case("put", vec![path("/a").methods(&["PUT"]).hosts(&["*.example.com"])]),
        case("header", vec![path("/a").header("x-a", exact("1")).hosts(&["api.example.com"])]),
        case("admin", vec![path("/a")]).on(&[ADMIN]).priority(3),
        case("client", vec![path("/*").client(&["198.51.100.0/24"])]).priority(-3),
        case("query", vec![path("/*").query("q", exact("1")).cookie("c", exact("1"))]).priority(-3),
    ];
    let router = router(&cases);
    let explanation = get("/a").header("cookie", "c=1").ask(|query| router.explain(query));
    let shown: Vec<_> = explanation
        .considered
        .iter()
        .map(|one| (cases[one.route.index()].name.as_str(), one.alternative, one.host, one.outcome.clone()))
        .collect();
    assert_eq!(
        shown,
        [
            ("admin", 0, HostMatch::Any, Outcome::Listener),
            ("header", 0, HostMatch::Exact, Outcome::Header("x-a".to_owned())),
            ("prefix", 1, HostMatch::Exact, Outcome::Chosen),
            ("regex", 0, HostMatch::Exact, Outcome::PathRegex),
            ("put", 0, HostMatch::Wildcard, Outcome::Method),
            ("any", 0, HostMatch::Any, Outcome::Later),
            ("query", 0, HostMatch::Any, Outcome::Query("q".to_owned())),
            ("client", 0, HostMatch::Any, Outcome::Client),
        ]
    );
    assert_eq!(explanation.found, Found::Route { id: RouteId(1), params: Params::NONE });
}

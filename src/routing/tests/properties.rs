//! The router against a plain reference: a scan over all alternatives that keeps the best.

use super::*;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// What decides, the smaller one first: priority, host, path, conditions, HEAD by name.
type Precedence = (Reverse<i32>, u8, Vec<u8>, Reverse<usize>, bool);

/// An alternative that holds for host, path, listener and conditions.
struct Candidate {
    precedence: Precedence,
    route: usize,
    alternative: usize,
    bound: BTreeMap<String, String>,
    takes_method: bool,
}

fn reference(cases: &[Case], request: &Request) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = cases
        .iter()
        .enumerate()
        .flat_map(|(route, case)| {
            let alternatives = case.route.matches.0.iter().enumerate();
            alternatives.filter_map(move |(at, one)| candidate(case, one, request, (route, at)))
        })
        .collect();
    candidates.sort_by(|a, b| a.precedence.cmp(&b.precedence));
    candidates
}

fn candidate(
    case: &Case,
    one: &Match,
    request: &Request,
    (route, alternative): (usize, usize),
) -> Option<Candidate> {
    let host = host_rank(&one.hosts, &request.host)?;
    let (path, bound) = path_rank(one, request.path())?;
    let header =
        |name: &str| request.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let query = request.target.split_once('?').and_then(|(_, query)| query.strip_prefix("q="));
    let cookie = header("cookie").and_then(|cookie| cookie.strip_prefix("c="));
    let holds = case.on.as_ref().is_none_or(|on| on.contains(&request.listener))
        && one.headers.iter().all(|(name, condition)| holds(condition, header(name)))
        && one.query.values().all(|condition| holds(condition, query))
        && one.cookies.values().all(|condition| holds(condition, cookie))
        && (one.client.is_empty() || one.client.iter().any(|network| network.contains(request.client)));
    let named = |method: &str| one.methods.iter().any(|name| name == method);
    let count = one.headers.len()
        + one.query.len()
        + one.cookies.len()
        + usize::from(!one.client.is_empty())
        + usize::from(!one.methods.is_empty());
    let precedence = (Reverse(case.route.priority), host, path, Reverse(count), !named("HEAD"));
    let takes_method =
        one.methods.is_empty() || named(&request.method) || request.method == "HEAD" && named("GET");
    holds.then_some(Candidate { precedence, route, alternative, bound, takes_method })
}

fn host_rank(hosts: &[String], host: &str) -> Option<u8> {
    if hosts.is_empty() {
        return Some(2);
    }
    if hosts.iter().any(|name| name == host) {
        return Some(0);
    }
    let wildcard = format!("*.{}", host.split_once('.')?.1);
    hosts.contains(&wildcard).then_some(1)
}

/// Kinds of the segments, and what they bind.
fn path_rank(one: &Match, path: &str) -> Option<(Vec<u8>, BTreeMap<String, String>)> {
    let mut bound = BTreeMap::new();
    if let Some(expression) = &one.path_regex {
        let whole = ::regex::Regex::new(&format!("^(?:{expression})$")).unwrap();
        let groups = whole.captures(path)?;
        for name in whole.capture_names().flatten() {
            bound.insert(name.to_owned(), groups.name(name).map_or("", |group| group.as_str()).to_owned());
        }
        return Some((vec![3], bound));
    }
    let pattern = one.path.as_deref().unwrap_or("/*");
    let mut rank = Vec::new();
    let mut rest: Option<&str> = Some(&path[1..]);
    for segment in pattern[1..].split('/') {
        if segment == "*" || segment.starts_with("{*") {
            rank.push(2);
            if let Some(name) = segment.strip_prefix("{*") {
                bound.insert(name.trim_end_matches('}').to_owned(), rest.unwrap_or("").to_owned());
            }
            return Some((rank, bound));
        }
        let (first, others) = match rest?.split_once('/') {
            Some((first, others)) => (first, Some(others)),
            None => (rest?, None),
        };
        if let Some(name) = segment.strip_prefix('{') {
            if first.is_empty() {
                return None;
            }
            rank.push(1);
            bound.insert(name.trim_end_matches('}').to_owned(), first.to_owned());
        } else if segment == first {
            rank.push(0);
        } else {
            return None;
        }
        rest = others;
    }
    rest.is_none().then_some((rank, bound))
}

fn holds(condition: &Condition, value: Option<&str>) -> bool {
    match (condition, value) {
        (Condition::Present(wanted), value) => *wanted == value.is_some(),
        (_, None) => false,
        (Condition::Exact(text), Some(value)) => text == value,
        (Condition::Prefix(text), Some(value)) => value.starts_with(text),
        (Condition::Regex(text), Some(value)) => {
            ::regex::Regex::new(&format!("^(?:{text})$")).unwrap().is_match(value)
        }
    }
}

fn one_of<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(values.to_vec())
}

fn some_of(values: &[&str], most: usize) -> impl Strategy<Value = Vec<String>> + use<> {
    let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
    prop::sample::subsequence(values, 0..=most)
}

fn patterns() -> impl Strategy<Value = (Option<String>, Option<String>)> {
    let segments = prop::collection::vec(one_of(&["a", "b", "{}"]), 0..4);
    let pattern = (segments, one_of(&["", "/", "/*", "/{*rest}"])).prop_map(|(segments, end)| {
        let mut pattern = String::new();
        for (at, segment) in segments.iter().enumerate() {
            pattern.push('/');
            let name = ["p", "q", "r"][at];
            pattern.push_str(&segment.replace("{}", &format!("{{{name}}}")));
        }
        pattern.push_str(if pattern.is_empty() && end.is_empty() { "/" } else { end });
        (Some(pattern), None)
    });
    let expression = one_of(&["/[ab]", "/a/(?<p>.*)", "/b/(?<p>[a-z]+)", "/.*/b", "(?<p>/a)?(?<q>/.*)"]);
    prop_oneof![
        8 => pattern,
        2 => expression.prop_map(|text| (None, Some(text.to_owned()))),
        1 => Just((None, None)),
    ]
}

fn conditions(name: &'static str) -> impl Strategy<Value = BTreeMap<String, Condition>> {
    let condition = one_of(&[
        exact("1"),
        exact("12"),
        Condition::Prefix("1".to_owned()),
        Condition::Regex("[12]+".to_owned()),
        Condition::Present(true),
        Condition::Present(false),
    ]);
    let map =
        move |condition: Option<Condition>| condition.into_iter().map(|c| (name.to_owned(), c)).collect();
    prop::option::weighted(0.15, condition).prop_map(map)
}

fn matches() -> impl Strategy<Value = Match> {
    let conditions = (conditions("x-a"), conditions("q"), conditions("c"));
    let client = some_of(&["192.0.2.0/24", "192.0.2.1", "198.51.100.0/24"], 1);
    let methods = some_of(&["GET", "HEAD", "PUT", "BREW"], 2);
    (
        some_of(&["a.x", "b.x", "*.x", "y"], 2),
        patterns(),
        methods,
        conditions,
        prop::option::weighted(0.1, client),
    )
        .prop_map(|(hosts, (path, path_regex), methods, (headers, query, cookies), client)| {
            let client = client.unwrap_or_default().iter().map(|network| network.parse().unwrap()).collect();
            Match { hosts, path, path_regex, methods, headers, query, cookies, client }
        })
}

fn cases() -> impl Strategy<Value = Vec<Case>> {
    let on = prop::option::weighted(0.2, one_of(&[PUBLIC, ADMIN]));
    let route = (prop::collection::vec(matches(), 1..3), on, prop_oneof![4 => Just(0), 1 => -1..2_i32]);
    prop::collection::vec(route, 1..10).prop_map(|routes| {
        let build = |(at, (matches, on, priority)): (usize, (Vec<Match>, Option<ListenerId>, i32))| Case {
            on: on.map(|listener| vec![listener]),
            ..case(&format!("r{at}"), matches).priority(priority)
        };
        routes.into_iter().enumerate().map(build).collect()
    })
}

fn requests() -> impl Strategy<Value = Request> {
    let path = prop::collection::vec(one_of(&["a", "b", "c", ""]), 1..5)
        .prop_map(|parts| format!("/{}", parts.join("/")));
    let value = || prop::option::weighted(0.4, one_of(&["", "1", "12", "2"]));
    let place = (one_of(&["a.x", "b.x", "c.x", "y", "z", ""]), one_of(&[PUBLIC, ADMIN]));
    let client = one_of(&["192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1"]);
    (path, place, one_of(&["GET", "HEAD", "PUT", "POST", "BREW"]), (value(), value(), value()), client)
        .prop_map(|(path, (host, listener), method, (header, query, cookie), client)| {
            let target = query.map_or(path.clone(), |query| format!("{path}?q={query}"));
            let mut request = get(&target).host(host).on(listener).method(method).client(client);
            if let Some(value) = header {
                request = request.header("x-a", value);
            }
            if let Some(value) = cookie {
                request = request.header("cookie", &format!("c={value}"));
            }
            request
        })
}

/// Pairs of places that the findings name, both ways.
fn conflicts(findings: &[Finding]) -> BTreeSet<(String, String)> {
    findings
        .iter()
        .filter_map(|finding| Some((finding.path.to_string(), finding.other.as_ref()?.to_string())))
        .flat_map(|(a, b)| [(a.clone(), b.clone()), (b, a)])
        .collect()
}

fn place(cases: &[Case], candidate: &Candidate) -> String {
    let case = &cases[candidate.route];
    match case.route.matches.0.len() {
        1 => format!("routes.{}.match", case.name),
        _ => format!("routes.{}.match[{}]", case.name, candidate.alternative),
    }
}

fn check(
    cases: &[Case],
    router: &Router,
    findings: &[Finding],
    request: &Request,
) -> Result<(), TestCaseError> {
    let candidates = reference(cases, request);
    let explanation = request.ask(|query| router.explain(query));
    let found = request.ask(|query| router.find(query));
    prop_assert_eq!(&found, &explanation.found);
    let mut holding = candidates.iter().filter(|candidate| candidate.takes_method);
    let Some(first) = holding.next() else {
        let allowed: BTreeSet<&str> = candidates
            .iter()
            .flat_map(|candidate| &cases[candidate.route].route.matches.0[candidate.alternative].methods)
            .flat_map(|method| [method.as_str(), if method == "GET" { "HEAD" } else { method }])
            .collect();
        match found {
            Found::NotFound => prop_assert!(allowed.is_empty(), "404 for {allowed:?}"),
            Found::MethodNotAllowed(found) => {
                prop_assert_eq!(found.methods(), allowed.into_iter().collect::<Vec<_>>());
            }
            Found::Route { .. } => prop_assert!(false, "found {found:?}"),
        }
        return Ok(());
    };
    let Found::Route { id, params } = found else {
        return Err(TestCaseError::fail(format!("{found:?} instead of {}", place(cases, first))));
    };
    let chosen = explanation.considered.iter().find(|one| one.outcome == Outcome::Chosen).unwrap();
    prop_assert_eq!(chosen.route, id);

    // Where nothing decides, compiling must have said so, and either will do.
    let known = conflicts(findings);
    let mut winner = first;
    for equal in holding.take_while(|candidate| candidate.precedence == first.precedence) {
        let pair = (place(cases, first), place(cases, equal));
        prop_assert!(known.contains(&pair), "{pair:?} hold both, and nobody said so");
        if (equal.route, equal.alternative) == (id.index(), chosen.alternative) {
            winner = equal;
        }
    }
    prop_assert_eq!((winner.route, winner.alternative), (id.index(), chosen.alternative));
    for (slot, name) in parameters(&cases[id.index()].route.matches).iter().enumerate() {
        prop_assert_eq!(params.get(slot, request.path()), &winner.bound[name], "{}", name);
    }
    let hidden = findings.iter().filter(|finding| finding.problem.what.contains("takes all"));
    for finding in hidden {
        prop_assert_ne!(finding.path.to_string(), place(cases, winner), "{}", &finding.problem);
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_router_answers_as_the_reference_does(cases in cases(), requests in prop::collection::vec(requests(), 24)) {
        let (router, findings) = compile(&cases);
        for request in &requests {
            check(&cases, &router, &findings, request)
                .map_err(|error| TestCaseError::fail(format!("{error}\n{request:?}\n{findings:#?}")))?;
        }
    }

    #[test]
    fn the_order_of_the_routes_decides_nothing(cases in cases(), request in requests()) {
        let (router, findings) = compile(&cases);
        prop_assume!(findings.iter().all(|finding| finding.severity == Severity::Warning));
        let reversed: Vec<Case> = cases.iter().rev().cloned().collect();
        let (backwards, _) = compile(&reversed);
        prop_assert_eq!(request.found(&router, &cases), request.found(&backwards, &reversed));
    }

    #[test]
    fn a_pattern_by_itself_agrees_with_the_router(pattern in patterns(), request in requests()) {
        let Some(text) = pattern.0 else { return Ok(()) };
        let cases = [case("only", vec![path(&text)])];
        let (router, _) = compile(&cases);
        let found = request.ask(|query| matches!(router.find(query), Found::Route { .. }));
        let alone = crate::message::pattern::PathMatcher::new(&text).unwrap();
        prop_assert_eq!(alone.matches(request.path()), found, "{} {}", text, request.path());
    }

    #[test]
    fn no_request_makes_it_panic(cases in cases(), host in ".*", path in ".*", method in ".*") {
        let (router, _) = compile(&cases);
        let head = RequestHeader::build("GET", b"/", None).unwrap();
        let client = "192.0.2.1".parse().unwrap();
        for path in [path.clone(), format!("/{path}")] {
            let query = Query { listener: PUBLIC, host: &host, path: &path, method: &method, head: &head, client };
            prop_assert_eq!(router.explain(&query).found, router.find(&query));
        }
    }

    #[test]
    fn no_route_makes_compiling_panic(host in ".*", pattern in ".*", expression in ".*", name in ".*", method in ".*") {
        let one = path(&pattern).hosts(&[&host]).methods(&[&method]).header(&name, exact(&name));
        let other = regex(&expression).query(&name, Condition::Regex(expression.clone())).cookie(&name, exact(&name));
        let _ = parameters(&Matches(vec![one.clone(), other.clone()]));
        let _ = compile(&[case("a", vec![one, other, path(&format!("/{pattern}"))])]);
    }
}

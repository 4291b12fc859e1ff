use super::*;

/// The findings, each as `error place: what (remedy) [other place]`.
fn findings(cases: &[Case]) -> Vec<String> {
    shown(&compile(cases).1)
}

fn shown(findings: &[Finding]) -> Vec<String> {
    let show = |finding: &Finding| {
        let severity = if finding.severity == Severity::Error { "error" } else { "warning" };
        let other = finding.other.as_ref().map_or_else(String::new, |other| format!(" [{other}]"));
        format!("{severity} {}: {}{other}", finding.path, finding.problem)
    };
    findings.iter().map(show).collect()
}

/// What is found between two routes `a` and `b` with these conditions: the first words of each.
fn between(a: Match, b: Match) -> Vec<String> {
    findings(&[case("a", vec![a]), case("b", vec![b])])
}

const CONFLICT: &str = "error routes.b.match: routes `a` and `b` can hold for the same request, and nothing \
                        decides between them (give one of them a `priority`, or another condition) \
                        [routes.a.match]";

#[test]
fn a_wrong_pattern_is_an_error_with_its_remedy() {
    let many: String = (0..17).map(|n| format!("/{{p{n}}}")).collect();
    let deep = "/a".repeat(65);
    for (text, what) in [
        ("orders", "it does not begin with `/` (write `/orders`)"),
        ("", "it does not begin with `/`"),
        ("/a//b", "is not in normal form and would match nothing (write `/a/b`)"),
        ("/a/../b", "is not in normal form and would match nothing (write `/b`)"),
        ("/%7euser", "is not in normal form and would match nothing (write `/~user`)"),
        ("/%2fuser", "is not in normal form and would match nothing (write `/%2Fuser`)"),
        ("/é", "the path has a byte that is not ASCII"),
        ("/a?b=c", "the path has a `?` or `#`"),
        ("/a b", "the path has a space"),
        ("/{}", "a parameter has no fitting name"),
        ("/{*}", "a parameter has no fitting name"),
        ("/{1a}", "a parameter has no fitting name"),
        ("/{a.b}", "a parameter has no fitting name"),
        ("/{a}/{a}", "two of its parameters have the same name"),
        ("/{a}/{*a}", "two of its parameters have the same name"),
        ("/*/a", "something follows its `*`"),
        ("/{*rest}/a", "something follows its `*`"),
        ("/a*", "`*` is a whole segment"),
        ("/files/{name}.json", "a parameter is a whole segment"),
        ("/a{b", "a parameter is a whole segment"),
        ("/{a}{b}", "a parameter is a whole segment"),
        (many.as_str(), "it has too many parameters"),
        (deep.as_str(), "it has too many segments"),
    ] {
        let found = findings(&of_paths(&[text]));
        let [finding] = &found[..] else {
            panic!("{text}: {found:#?}");
        };
        assert!(finding.starts_with("error routes.r0.match.path: "), "{text}: {finding}");
        assert!(finding.contains(what), "{text}: {finding}");
    }
}

#[test]
fn a_wrong_regular_expression_is_an_error() {
    for (text, what) in [
        ("/(", "not a regular expression: unclosed group"),
        ("/a)|(?:/b", "not a regular expression: unopened group"),
        ("/(?<a.b>x)", "`a.b` is not a parameter's name"),
        ("(?=a)", "look-around"),
        (r"/(\w{500}){20}", "larger than 1 MiB"),
    ] {
        let found = findings(&[case("r", vec![regex(text)])]);
        assert!(found[0].starts_with("error routes.r.match.path_regex: "), "{text}: {found:#?}");
        assert!(found[0].contains(what), "{text}: {found:#?}");
    }
    let groups: String = (0..17).map(|n| format!("(?<g{n}>x)")).collect();
    assert!(findings(&[case("r", vec![regex(&groups)])])[0].contains("too many named groups"));
}

#[test]
fn a_wrong_host_is_an_error() {
    let long = format!("{}.example", "a".repeat(64));
    for (host, what) in [
        ("", "its labels are not host name labels"),
        (".", "its labels are not host name labels"),
        ("a..b", "its labels are not host name labels"),
        ("a b", "its labels are not host name labels"),
        (long.as_str(), "its labels are not host name labels"),
        ("*", "leave `hosts` out"),
        ("*.", "its `*` is in the wrong place"),
        ("*a.example.com", "its `*` is in the wrong place"),
        ("a.*.example.com", "its `*` is in the wrong place"),
        ("example.com:80", "it has a port"),
        ("https://example.com", "it is a URL"),
        ("example.com/a", "it is a URL"),
        ("bücher.example", "it is not ASCII"),
        ("2001:db8::1", "write it as `[2001:db8::1]`"),
        ("[2001:db8::1]:80", "not an IPv6 address in brackets"),
        ("[::g]", "not an IPv6 address in brackets"),
    ] {
        let found = findings(&[case("r", vec![path("/").hosts(&["example.com", host])])]);
        assert!(found[0].starts_with("error routes.r.match.hosts[1]: "), "{host}: {found:#?}");
        assert!(found[0].contains(what), "{host}: {found:#?}");
    }
}

#[test]
fn other_mistakes() {
    let both = Match { path_regex: Some("/".to_owned()), ..path("/") };
    let bad_regex = Condition::Regex("(".to_owned());
    for (one, expected) in [
        (
            path("/").methods(&["get"]),
            "error routes.r.match.methods[0]: `get` is not a method: case counts (write `GET`)",
        ),
        (
            path("/").methods(&["GET", "A B"]),
            "error routes.r.match.methods[1]: `A B` is not a method (a method is a word such as `GET`, without spaces)",
        ),
        (
            path("/").header("x y", exact("1")),
            "error routes.r.match.headers.x y: `x y` is not a header field's name (a name is letters, digits and `-`, such as `x-channel`)",
        ),
        (
            path("/").cookie("a=b", exact("1")),
            "error routes.r.match.cookies.a=b: `a=b` is not a cookie's name (a name has no spaces, `=`, `;`, `,` or quotes)",
        ),
        (
            path("/").query("", exact("1")),
            "error routes.r.match.query.: a query parameter has no name (write its name as the key)",
        ),
        (
            path("/").query("q", bad_regex),
            "error routes.r.match.query.q: not a regular expression: unclosed group (the syntax is that of the Rust crate `regex`: no look-around, no back-references)",
        ),
        (both, "error routes.r.match.path_regex: `path` and `path_regex` are both there (keep one of them)"),
        (
            path("/a/:id"),
            "warning routes.r.match.path: `:id` is taken as it is, not as a parameter (write `{id}` for a parameter)",
        ),
        (
            path("/").hosts(&["a.example", "A.example."]),
            "warning routes.r.match.hosts[1]: the host `A.example.` is there twice (remove one)",
        ),
    ] {
        assert_eq!(findings(&[case("r", vec![one])]), [expected]);
    }
}

#[test]
fn a_place_in_a_list_has_its_number() {
    let found = findings(&[case("r", vec![path("/a"), path("b")])]);
    assert!(found[0].starts_with("error routes.r.match[1].path: "), "{found:#?}");
}

#[test]
fn equals_that_can_both_hold_are_a_conflict() {
    let prefix = |text: &str| Condition::Prefix(text.to_owned());
    let like = |text: &str| Condition::Regex(text.to_owned());
    let x = |condition| path("/").header("x-a", condition);
    for (a, b) in [
        (path("/"), path("/")),
        (Match::default(), path("/*")),
        (path("/a/*"), path("/a/{*rest}")),
        (path("/{a}"), path("/{b}")),
        (path("/").hosts(&["a.example", "b.example"]), path("/").hosts(&["B.example"])),
        (path("/").methods(&["GET", "PUT"]), path("/").methods(&["PUT", "POST"])),
        (path("/").methods(&["GET"]), path("/").header("x-a", exact("1"))),
        (x(exact("1")), x(exact("1"))),
        (x(exact("1")), path("/").header("x-b", exact("2"))),
        (x(exact("1")), path("/").query("x-a", exact("2"))),
        (x(exact("ab")), x(prefix("a"))),
        (x(prefix("ab")), x(prefix("a"))),
        (x(exact("a")), x(like("a+"))),
        (x(prefix("a")), x(like("b+"))),
        (x(like("[ab]")), x(like("[bc]"))),
        (x(Condition::Present(true)), x(exact("1"))),
        (path("/").client(&["10.0.0.0/8"]), path("/").client(&["192.0.2.1", "10.1.0.0/16"])),
        (regex("/a+"), regex("/a*")),
        (regex("/.*"), regex("/b")),
    ] {
        let mut found = between(a.clone(), b.clone());
        found.retain(|finding| finding.starts_with("error"));
        assert_eq!(found, [CONFLICT], "{a:?} {b:?}");
    }
}

#[test]
fn equals_that_cannot_both_hold_are_none() {
    let prefix = |text: &str| Condition::Prefix(text.to_owned());
    let like = |text: &str| Condition::Regex(text.to_owned());
    let x = |condition| path("/").header("x-a", condition);
    for (a, b) in [
        (path("/a"), path("/b")),
        (path("/a"), path("/a/")),
        (path("/a"), path("/a/*")),
        (path("/").hosts(&["a.example"]), path("/").hosts(&["b.example"])),
        (path("/").hosts(&["*.example"]), path("/").hosts(&["b.example"])),
        (path("/").methods(&["GET"]), path("/").methods(&["PUT", "BREW"])),
        (path("/").methods(&["GET"]), path("/").methods(&["HEAD"])),
        (x(exact("1")), x(exact("2"))),
        (x(exact("1")), x(prefix("2"))),
        (x(prefix("ab")), x(prefix("ac"))),
        (x(exact("b")), x(like("a+"))),
        (x(like("a[0-9]")), x(like("b[0-9]"))),
        (x(like("a[0-9]")), x(Condition::Present(false))),
        (x(Condition::Present(true)), x(Condition::Present(false))),
        (path("/").query("q", exact("1")), path("/").query("q", exact("2"))),
        (path("/").cookie("c", exact("1")), path("/").cookie("c", exact("2"))),
        (path("/").client(&["10.0.0.0/8"]), path("/").client(&["11.0.0.0/8", "2001:db8::/32"])),
        (regex("/a/[0-9]+"), regex("/b/[0-9]+")),
        (regex(r"/.*\.png"), regex(r"/.*\.jpg")),
        (path("/a"), regex("/a")),
    ] {
        assert_eq!(between(a.clone(), b.clone()), [""; 0], "{a:?} {b:?}");
    }
    assert_eq!(
        findings(&[case("a", vec![path("/")]).on(&[PUBLIC]), case("b", vec![path("/")]).on(&[ADMIN])]),
        [""; 0]
    );
    assert_eq!(findings(&[case("a", vec![path("/")]).priority(1), case("b", vec![regex("/.*")])]), [""; 0]);
}

#[test]
fn a_pair_that_meets_at_many_hosts_is_reported_once() {
    let hosts = ["a.example", "b.example", "c.example"];
    assert_eq!(between(path("/").hosts(&hosts), path("/").hosts(&hosts)), [CONFLICT]);
}

#[test]
fn equals_of_one_route_are_a_warning() {
    assert_eq!(
        findings(&[case("a", vec![path("/"), path("/x"), path("/")])]),
        [
            "warning routes.a.match[2]: two alternatives of this route can hold for the same request (remove one, or add a condition to it) [routes.a.match[0]]"
        ]
    );
}

#[test]
fn a_route_that_nothing_reaches_is_a_warning() {
    let expected = [
        "warning routes.b.match: route `a` takes all that this one could: no request gets here (remove it, or give it a higher priority or more conditions) [routes.a.match]",
    ];
    let x = |condition| path("/").header("x-a", condition);
    for (a, b) in [
        (path("/"), path("/")),
        (path("/"), path("/").methods(&["GET"])),
        (path("/").methods(&["GET"]), path("/").methods(&["HEAD"]).header("x", exact("1"))),
        (x(Condition::Present(true)), x(exact("1"))),
        (x(Condition::Prefix("a".to_owned())), x(exact("ab")).methods(&["GET"])),
        (x(Condition::Regex("a.".to_owned())), x(exact("ab"))),
        (path("/").client(&["10.0.0.0/8"]), path("/").client(&["10.1.0.0/16", "10.2.0.0/16"])),
        (regex("/a.*"), regex("/a.*").methods(&["GET"])),
        (path("/").hosts(&["a.example", "b.example"]), path("/").hosts(&["b.example"])),
    ] {
        let cases = [case("a", vec![a.clone()]).priority(1), case("b", vec![b.clone()])];
        assert_eq!(findings(&cases), expected, "{a:?} {b:?}");
    }
    let on = [case("a", vec![path("/")]).priority(1), case("b", vec![path("/")]).on(&[PUBLIC])];
    assert_eq!(findings(&on), expected);
}

#[test]
fn a_route_that_something_reaches_is_none() {
    let x = |condition| path("/").header("x-a", condition);
    for (a, b) in [
        (path("/").methods(&["GET"]), path("/")),
        (x(exact("1")), path("/")),
        (x(exact("1")), x(Condition::Present(true))),
        (path("/").client(&["10.1.0.0/16"]), path("/").client(&["10.0.0.0/8"])),
        (path("/").hosts(&["b.example"]), path("/").hosts(&["a.example", "b.example"])),
        (path("/").methods(&["HEAD"]), path("/").methods(&["GET"])),
        (regex("/a"), regex("/b")),
    ] {
        let cases = [case("a", vec![a.clone()]).priority(1), case("b", vec![b.clone()])];
        assert_eq!(findings(&cases), [""; 0], "{a:?} {b:?}");
    }
    let on = [case("a", vec![path("/")]).priority(1).on(&[PUBLIC]), case("b", vec![path("/")])];
    assert_eq!(findings(&on), [""; 0]);
}

#[test]
fn what_is_tried_one_by_one_is_bounded() {
    let by_header =
        |at: usize| case(&format!("r{at}"), vec![path("/").header("x-a", exact(&at.to_string()))]);
    let by_regex = |at: usize| case(&format!("r{at}"), vec![regex(&format!("/{at}/[0-9]"))]);
    let many = |of: &dyn Fn(usize) -> Case, count| (0..count).map(of).collect::<Vec<_>>();
    assert_eq!(findings(&many(&by_header, 64)), [""; 0]);
    assert_eq!(findings(&many(&by_regex, 64)), [""; 0]);
    let expected = |what: &str| {
        [format!(
            "error routes.r64.match: there are 65 alternatives for {what} (64 are the most, because they are tried one by one: tell them apart by path)"
        )]
    };
    assert_eq!(findings(&many(&by_header, 65)), expected("one host and path"));
    assert_eq!(findings(&many(&by_regex, 65)), expected("`path_regex` on one host"));
}

use super::super::directives::{Reach, RequestDirectives, ResponseDirectives};
use super::{head, secs};

fn response(lines: &str) -> ResponseDirectives {
    ResponseDirectives::of(&head(lines))
}

fn fields(names: &[&str]) -> Reach {
    Reach::Fields(names.iter().map(|name| name.parse().unwrap()).collect())
}

#[test]
fn rfc9111_5_2_directives_of_answers() {
    let plain = ResponseDirectives::default;
    for (section, line, expected) in [
        ("5.2 names have no case", "No-Store", ResponseDirectives { no_store: true, ..plain() }),
        ("5.2.2.1", "max-age=60", ResponseDirectives { max_age: Some(secs(60)), ..plain() }),
        (
            "5.2 both forms are read",
            "max-age=\"60\"",
            ResponseDirectives { max_age: Some(secs(60)), ..plain() },
        ),
        ("5.2.2.2", "must-revalidate", ResponseDirectives { must_revalidate: true, ..plain() }),
        (
            "5.2.2.3",
            "must-understand, no-store",
            ResponseDirectives { must_understand: true, no_store: true, ..plain() },
        ),
        ("5.2.2.4", "no-cache", ResponseDirectives { no_cache: Reach::All, ..plain() }),
        (
            "5.2.2.4 with fields",
            "no-cache=\"a, B\"",
            ResponseDirectives { no_cache: fields(&["a", "b"]), ..plain() },
        ),
        ("5.2.2.4 a token instead", "no-cache=a", ResponseDirectives { no_cache: fields(&["a"]), ..plain() }),
        (
            "5.2.2.4 names that are none",
            "no-cache=\"a b\"",
            ResponseDirectives { no_cache: Reach::All, ..plain() },
        ),
        ("5.2.2.7", "private", ResponseDirectives { private: Reach::All, ..plain() }),
        ("5.2.2.7 with fields", "private=\"x\"", ResponseDirectives { private: fields(&["x"]), ..plain() }),
        (
            "5.2.2.7 the wider one holds",
            "private=\"x\", private",
            ResponseDirectives { private: Reach::All, ..plain() },
        ),
        ("5.2.2.8", "proxy-revalidate", ResponseDirectives { proxy_revalidate: true, ..plain() }),
        ("5.2.2.9", "public", ResponseDirectives { public: true, ..plain() }),
        ("5.2.2.10", "s-maxage=5", ResponseDirectives { s_maxage: Some(secs(5)), ..plain() }),
        (
            "RFC 5861 3",
            "stale-while-revalidate=7",
            ResponseDirectives { stale_while_revalidate: Some(secs(7)), ..plain() },
        ),
        ("RFC 5861 4", "stale-if-error=8", ResponseDirectives { stale_if_error: Some(secs(8)), ..plain() }),
        (
            "5.2.3 unknown ones are passed over",
            "foo=\"max-age=1, no-store\", bar, public",
            ResponseDirectives { public: true, ..plain() },
        ),
        (
            "5.2.3 and so are pieces that are none",
            "=5, max age=3, ;;;, \"x\", public",
            ResponseDirectives { public: true, ..plain() },
        ),
        ("4.2.1 no number is stale", "max-age=abc", ResponseDirectives { max_age: Some(secs(0)), ..plain() }),
        ("4.2.1 nor a negative one", "max-age=-5", ResponseDirectives { max_age: Some(secs(0)), ..plain() }),
        ("4.2.1 nor a fraction", "max-age=1.5", ResponseDirectives { max_age: Some(secs(0)), ..plain() }),
        ("4.2.1 nor none", "max-age", ResponseDirectives { max_age: Some(secs(0)), ..plain() }),
        (
            "4.2.1 nor one with a tail",
            "max-age=60;x",
            ResponseDirectives { max_age: Some(secs(0)), ..plain() },
        ),
        (
            "4.2.1 the first of two",
            "max-age=5, max-age=9",
            ResponseDirectives { max_age: Some(secs(5)), ..plain() },
        ),
        (
            "1.2.2 overflow",
            "max-age=99999999999999999999999",
            ResponseDirectives { max_age: Some(secs(1 << 31)), ..plain() },
        ),
        (
            "1.2.2 beyond 2^31",
            "max-age=2147483649",
            ResponseDirectives { max_age: Some(secs(1 << 31)), ..plain() },
        ),
        (
            "5.6.4 escapes in quotes",
            "private=\"x-\\a\"",
            ResponseDirectives { private: fields(&["x-a"]), ..plain() },
        ),
        (
            "an open quote ends the line",
            "public, private=\"x, no-store",
            ResponseDirectives { public: true, ..plain() },
        ),
    ] {
        assert_eq!(response(&format!("cache-control: {line}")), expected, "{section}: {line}");
    }
}

#[test]
fn rfc9110_5_3_several_lines_are_one_list() {
    let told = response(
        "cache-control: public\ncache-control: max-age=3, , no-cache=\"a\"\ncache-control: no-cache=b",
    );
    let expected = ResponseDirectives {
        public: true,
        max_age: Some(secs(3)),
        no_cache: fields(&["a", "b"]),
        ..ResponseDirectives::default()
    };
    assert_eq!(told, expected);
}

#[test]
fn rfc9111_5_2_1_directives_of_requests() {
    let plain = RequestDirectives::default;
    let forever = Some(secs(1 << 31));
    for (section, lines, expected) in [
        ("5.2.1.1", "cache-control: max-age=10", RequestDirectives { max_age: Some(secs(10)), ..plain() }),
        (
            "5.2.1.1 no number",
            "cache-control: max-age=x",
            RequestDirectives { max_age: Some(secs(0)), ..plain() },
        ),
        ("5.2.1.2", "cache-control: max-stale=4", RequestDirectives { max_stale: Some(secs(4)), ..plain() }),
        ("5.2.1.2 any", "cache-control: max-stale", RequestDirectives { max_stale: forever, ..plain() }),
        ("5.2.1.2 no number", "cache-control: max-stale=x", plain()),
        ("5.2.1.3", "cache-control: min-fresh=5", RequestDirectives { min_fresh: Some(secs(5)), ..plain() }),
        ("5.2.1.4", "cache-control: no-cache", RequestDirectives { no_cache: true, ..plain() }),
        ("5.2.1.5", "cache-control: no-store", RequestDirectives { no_store: true, ..plain() }),
        ("5.2.1.7", "cache-control: only-if-cached", RequestDirectives { only_if_cached: true, ..plain() }),
        (
            "RFC 5861 4",
            "cache-control: stale-if-error=9",
            RequestDirectives { stale_if_error: Some(secs(9)), ..plain() },
        ),
        ("5.4", "pragma: no-cache", RequestDirectives { no_cache: true, ..plain() }),
        (
            "5.4 only alone",
            "pragma: no-cache\ncache-control: max-age=1",
            RequestDirectives { max_age: Some(secs(1)), ..plain() },
        ),
    ] {
        assert_eq!(RequestDirectives::of(&head(lines)), expected, "{section}");
    }
}

#[test]
fn rfc9213_targeted_fields_go_first() {
    let targeted = || ResponseDirectives { targeted: true, ..ResponseDirectives::default() };
    for (section, lines, expected) in [
        (
            "2.2",
            "cdn-cache-control: max-age=5\ncache-control: no-store",
            ResponseDirectives { max_age: Some(secs(5)), ..targeted() },
        ),
        (
            "2.1 types",
            "cdn-cache-control: max-age=\"5\", no-store=?0, private",
            ResponseDirectives { private: Reach::All, ..targeted() },
        ),
        (
            "2.1 several lines",
            "cdn-cache-control: max-age=5\ncdn-cache-control: must-revalidate",
            ResponseDirectives { max_age: Some(secs(5)), must_revalidate: true, ..targeted() },
        ),
        (
            "2.1 a negative number",
            "cdn-cache-control: max-age=-5",
            ResponseDirectives { max_age: Some(secs(0)), ..targeted() },
        ),
        (
            "2.1 the last of two",
            "cdn-cache-control: max-age=5, max-age=6",
            ResponseDirectives { max_age: Some(secs(6)), ..targeted() },
        ),
        (
            "2.1 parameters say nothing",
            "cdn-cache-control: max-age=5;x=1",
            ResponseDirectives { max_age: Some(secs(5)), ..targeted() },
        ),
    ] {
        assert_eq!(response(lines), expected, "RFC 9213 {section}");
    }
    for (section, lines) in [
        ("2.1 what is no dictionary is ignored", "cdn-cache-control: max-age=5, ,=\ncache-control: public"),
        ("2.1 so is an empty one", "cdn-cache-control:\ncache-control: public"),
    ] {
        let expected = ResponseDirectives { public: true, ..ResponseDirectives::default() };
        assert_eq!(response(lines), expected, "RFC 9213 {section}");
    }
}

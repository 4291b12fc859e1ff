use super::super::freshness::{self, Exchange, Source};
use super::super::reuse::Use;
use super::super::{date, directives::RequestDirectives, directives::ResponseDirectives};
use super::{DATE, NOW, at_once, head, keep, keep_with, secs};
use crate::policy::cache::Settings;
use http::{HeaderValue, StatusCode};
use std::time::Duration;

#[test]
fn rfc9110_5_6_7_the_three_forms_of_dates() {
    for text in
        ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
    {
        assert_eq!(date::parse(&HeaderValue::from_static(text)), Some(NOW), "{text}");
    }
    for text in ["0", "-1", "", "Sun, 06 Nov 1994", "Sun, 32 Nov 1994 08:49:37 GMT", "now"] {
        assert_eq!(date::parse(&HeaderValue::from_static(text)), None, "{text}");
    }
    assert_eq!(date::value(NOW).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert!(date::value(Duration::MAX).is_some());
}

fn lifetime(status: u16, lines: &str, settings: &Settings) -> (u64, Source) {
    let headers = head(lines);
    let directives = ResponseDirectives::of(&headers);
    let status = StatusCode::from_u16(status).unwrap();
    let (lifetime, source) = freshness::lifetime(status, &headers, &directives, (settings, at_once()));
    (lifetime.as_secs(), source)
}

#[test]
fn rfc9111_4_2_1_lifetimes() {
    let minute_later = "expires: Sun, 06 Nov 1994 08:50:37 GMT";
    let settings = Settings::default();
    for (section, lines, expected) in [
        (
            "s-maxage first",
            format!("cache-control: max-age=1, s-maxage=2\n{minute_later}"),
            (2, Source::SharedMaxAge),
        ),
        ("then max-age", format!("cache-control: max-age=1\n{minute_later}"), (1, Source::MaxAge)),
        ("then Expires less Date", format!("{DATE}\n{minute_later}"), (60, Source::Expires)),
        ("5.3 Expires against when it came", minute_later.to_owned(), (60, Source::Expires)),
        (
            "5.3 Expires as old as Date",
            format!("{DATE}\nexpires: Sun, 06 Nov 1994 08:49:37 GMT"),
            (0, Source::Expires),
        ),
        ("5.3 an Expires that is none", "expires: 0".to_owned(), (0, Source::Expires)),
        ("5.3 the first Expires", format!("expires: -1\n{minute_later}"), (0, Source::Expires)),
        (
            "RFC 9213 2.2 Expires does not count",
            format!("cdn-cache-control: public\n{minute_later}"),
            (0, Source::Nothing),
        ),
        (
            "4.2.2 a tenth",
            format!("{DATE}\nlast-modified: Sun, 06 Nov 1994 08:32:57 GMT"),
            (100, Source::Heuristic),
        ),
        (
            "4.2.2 at most the cap",
            format!("{DATE}\nlast-modified: Sat, 06 Nov 1993 08:49:37 GMT"),
            (3600, Source::Heuristic),
        ),
        (
            "4.2.2 not from the future",
            format!("{DATE}\nlast-modified: Mon, 07 Nov 1994 08:49:37 GMT"),
            (0, Source::Nothing),
        ),
        (
            "4.2.2 explicit goes first",
            "cache-control: max-age=0\nlast-modified: Sat, 06 Nov 1993 08:49:37 GMT".to_owned(),
            (0, Source::MaxAge),
        ),
        ("nothing said", String::new(), (0, Source::Nothing)),
    ] {
        assert_eq!(lifetime(200, &lines, &settings), expected, "RFC 9111 4.2.1, {section}");
    }
    let modified = format!("{DATE}\nlast-modified: Sun, 06 Nov 1994 08:32:57 GMT");
    assert_eq!(
        lifetime(302, &modified, &settings),
        (0, Source::Nothing),
        "RFC 9111 4.2.2: status not cacheable by itself"
    );
    let public = format!("cache-control: public\n{modified}");
    assert_eq!(lifetime(302, &public, &settings), (100, Source::Heuristic), "RFC 9111 4.2.2: public");
}

#[test]
fn configured_lifetimes_hold_where_the_answer_is_silent() {
    let settings = Settings {
        ttl: Box::new([(404, secs(10)), (5, secs(1))]),
        default_ttl: Some(secs(60)),
        min_ttl: secs(5),
        max_ttl: secs(100),
        ..Settings::default()
    };
    for (status, lines, expected) in [
        (200, "", 60),
        (404, "", 10),
        (503, "", 5),
        (302, "", 0),
        (200, "cache-control: max-age=1", 5),
        (200, "cache-control: max-age=0", 0),
        (200, "cache-control: max-age=1000", 100),
        (404, "cache-control: max-age=20", 20),
    ] {
        assert_eq!(lifetime(status, lines, &settings).0, expected, "{status} {lines}");
    }
}

#[test]
fn rfc9111_4_2_3_age() {
    let at = |asked, answered| Exchange { asked: NOW + secs(asked), answered: NOW + secs(answered) };
    for (section, lines, exchange, expected) in [
        ("apparent age", DATE.to_owned(), at(7, 7), 7),
        ("a date in the future", DATE.replace("08:49", "09:49"), at(0, 0), 0),
        ("Age and the delay of the exchange", "age: 10".to_owned(), at(0, 3), 13),
        ("the larger one", format!("{DATE}\nage: 3"), at(7, 7), 7),
        ("5.1 the first of several", "age: 4, 9\nage: 10".to_owned(), at(0, 0), 4),
        ("5.1 no age", "age: -4".to_owned(), at(0, 0), 0),
        ("1.2.2 too large an age", "age: 9999999999999999".to_owned(), at(0, 0), 1 << 31),
    ] {
        assert_eq!(
            freshness::initial_age(&head(&lines), exchange).as_secs(),
            expected,
            "RFC 9111 4.2.3, {section}"
        );
    }
    let kept = keep(&format!("{DATE}\nage: 10\ncache-control: max-age=60")).unwrap();
    assert_eq!(kept.terms.age(NOW + secs(5)), secs(15), "RFC 9111 4.2.3: resident time");
    assert_eq!(
        kept.terms.age(NOW - secs(50)),
        secs(10),
        "a clock that is set back makes nothing younger than it came"
    );
}

#[test]
fn rfc9111_4_use_of_what_is_kept() {
    let asked = |request: &str, answer: &str, age: u64| {
        let kept = keep(&format!("{DATE}\netag: \"a\"\n{answer}")).unwrap();
        let request = RequestDirectives::of(&head(request));
        kept.terms.usable(&request, NOW + secs(age), false)
    };
    let no = Use::Validate { or_stale: false };
    for (section, request, answer, age, expected) in [
        ("4.2 fresh", "", "cache-control: max-age=10", 9, Use::Fresh),
        ("4.2 stale at its lifetime", "", "cache-control: max-age=10", 10, no),
        ("4.2.4 not stale without leave", "", "cache-control: max-age=10", 11, no),
        ("5.2.2.4 no-cache", "", "cache-control: max-age=10, no-cache", 0, no),
        ("5.2.1.4 no-cache of the client", "cache-control: no-cache", "cache-control: max-age=10", 0, no),
        ("5.4 pragma", "pragma: no-cache", "cache-control: max-age=10", 0, no),
        ("5.2.1.1 old enough", "cache-control: max-age=5", "cache-control: max-age=10", 5, Use::Fresh),
        ("5.2.1.1 too old for the client", "cache-control: max-age=5", "cache-control: max-age=10", 6, no),
        (
            "5.2.1.3 fresh long enough",
            "cache-control: min-fresh=3",
            "cache-control: max-age=10",
            7,
            Use::Fresh,
        ),
        ("5.2.1.3 not long enough", "cache-control: min-fresh=4", "cache-control: max-age=10", 7, no),
        ("5.2.1.2 stale within", "cache-control: max-stale=5", "cache-control: max-age=10", 15, Use::Stale),
        ("5.2.1.2 stale beyond", "cache-control: max-stale=5", "cache-control: max-age=10", 16, no),
        ("5.2.1.2 stale at all", "cache-control: max-stale", "cache-control: max-age=10", 9999, Use::Stale),
        (
            "5.2.2.2 must-revalidate",
            "cache-control: max-stale",
            "cache-control: max-age=10, must-revalidate",
            11,
            no,
        ),
        (
            "5.2.2.8 proxy-revalidate",
            "cache-control: max-stale",
            "cache-control: max-age=10, proxy-revalidate",
            11,
            no,
        ),
        ("5.2.2.10 s-maxage", "cache-control: max-stale", "cache-control: s-maxage=10", 11, no),
        ("RFC 5861 3 within", "", "cache-control: max-age=10, stale-while-revalidate=5", 15, Use::Meanwhile),
        ("RFC 5861 3 beyond", "", "cache-control: max-age=10, stale-while-revalidate=5", 16, no),
        (
            "RFC 5861 3, not against must-revalidate",
            "",
            "cache-control: max-age=10, must-revalidate, stale-while-revalidate=5",
            11,
            no,
        ),
        (
            "RFC 5861 3, beside s-maxage",
            "",
            "cache-control: s-maxage=10, stale-while-revalidate=5",
            11,
            Use::Meanwhile,
        ),
        (
            "RFC 5861 4 within",
            "",
            "cache-control: max-age=10, stale-if-error=5",
            15,
            Use::Validate { or_stale: true },
        ),
        ("RFC 5861 4 beyond", "", "cache-control: max-age=10, stale-if-error=5", 16, no),
        (
            "RFC 5861 4, by the client",
            "cache-control: stale-if-error=5",
            "cache-control: max-age=10",
            15,
            Use::Validate { or_stale: true },
        ),
        (
            "4.2.4 no-cache is never stale",
            "cache-control: stale-if-error=5",
            "cache-control: max-age=10, no-cache",
            12,
            no,
        ),
        (
            "5.2.2.2 nor is must-revalidate",
            "cache-control: stale-if-error=5",
            "cache-control: max-age=10, must-revalidate",
            12,
            no,
        ),
        ("RFC 8246 immutable is fresh as others", "", "cache-control: max-age=10, immutable", 9, Use::Fresh),
    ] {
        assert_eq!(asked(request, answer, age), expected, "RFC 9111 {section}");
    }
}

#[test]
fn rfc9111_4_2_4_what_may_stand_in_for_an_upstream_that_failed() {
    for (directives, fresh, stale) in [
        ("max-age=10", true, true),
        ("max-age=10, stale-if-error=0", true, true),
        ("max-age=10, must-revalidate", false, false),
        ("max-age=10, proxy-revalidate", false, false),
        ("s-maxage=10", false, false),
        ("max-age=10, no-cache", false, false),
    ] {
        let kept = keep(&format!("cache-control: {directives}\netag: \"v\"")).unwrap();
        let at = |seconds| kept.terms.answered + Duration::from_secs(seconds);
        let most = Duration::from_secs(100);
        assert_eq!(kept.terms.may_stand_in(at(5), most), fresh, "{directives}");
        assert_eq!(kept.terms.may_stand_in(at(110), most), stale, "{directives}");
        assert!(!kept.terms.may_stand_in(at(111), most), "{directives}");
    }
}

#[test]
fn what_a_purge_made_stale_is_served_only_in_its_grace() {
    let kept =
        keep(&format!("{DATE}\netag: \"a\"\ncache-control: max-age=10, stale-while-revalidate=5")).unwrap();
    let any = RequestDirectives::default();
    assert_eq!(kept.terms.usable(&any, NOW, true), Use::Meanwhile);
    assert_eq!(kept.terms.usable(&any, NOW + secs(16), true), Use::Validate { or_stale: false });
}

#[test]
fn configured_grace_yields_to_what_the_answer_says() {
    let settings = Settings { grace: secs(100), stale_if_error: secs(200), ..Settings::default() };
    for (line, grace, stale_if_error) in [
        ("max-age=1", 100, 200),
        ("max-age=1, stale-while-revalidate=3", 3, 200),
        ("max-age=1, stale-if-error=0", 100, 0),
        ("max-age=1, must-revalidate", 0, 0),
        ("s-maxage=1", 0, 0),
        ("max-age=1, no-cache", 0, 0),
    ] {
        let terms =
            keep_with("", 200, &format!("etag: \"a\"\ncache-control: {line}"), &settings).unwrap().terms;
        assert_eq!((terms.grace, terms.stale_if_error), (secs(grace), secs(stale_if_error)), "{line}");
    }
}

use super::super::conditional::{Outcome, evaluate};
use super::super::directives::{RequestDirectives, ResponseDirectives};
use super::super::range::{Ranges, parse};
use super::super::reuse::Use;
use super::super::storing::{Asked, storable};
use super::{NOW, at_once, head, secs};
use crate::policy::cache::Settings;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use proptest::prelude::*;

fn directive() -> impl Strategy<Value = String> {
    prop_oneof![
        "(no-store|no-cache|private|public|must-revalidate|proxy-revalidate|must-understand|immutable)",
        "(max-age|s-maxage|stale-while-revalidate|stale-if-error|max-stale|min-fresh)=[0-9]{0,3}",
        "(private|no-cache)=\"[a-z, ]{0,8}\"",
        "[ -~]{0,12}",
    ]
}

fn line(name: &'static str) -> impl Strategy<Value = HeaderMap> {
    proptest::collection::vec(directive(), 0..6).prop_map(move |items| {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(&items.join(", ")).unwrap());
        headers
    })
}

proptest! {
    #[test]
    fn reading_never_fails_and_is_idempotent(text in "\\PC{0,64}") {
        if let Ok(value) = HeaderValue::from_str(&text) {
            let mut headers = HeaderMap::new();
            headers.insert("cache-control", value.clone());
            headers.insert("cdn-cache-control", value);
            let told = ResponseDirectives::of(&headers);
            prop_assert_eq!(told, ResponseDirectives::of(&headers));
            RequestDirectives::of(&headers);
        }
    }

    /// RFC 9111 sections 3 and 5.2.2: nothing that forbids it is stored, and nothing that must be validated is
    /// used without.
    #[test]
    fn the_most_restrictive_directive_holds(
        mut answer in line("cache-control"),
        request in line("cache-control"),
        age in 0_u64..2000,
    ) {
        answer.insert("etag", HeaderValue::from_static("\"a\""));
        let said = ResponseDirectives::of(&answer);
        let asked = RequestDirectives::of(&request);
        let settings = Settings { grace: secs(50), stale_if_error: secs(50), ..Settings::default() };
        let asking = Asked { method: &Method::GET, directives: &asked, is_personal: false };
        let kept = storable(asking, (StatusCode::OK, &answer), at_once(), &settings);
        let Ok((kept, _)) = kept else { return Ok(()) };
        prop_assert!(!said.no_store || said.must_understand);
        prop_assert!(said.private != super::super::directives::Reach::All);
        prop_assert!(!asked.no_store);
        let use_ = kept.terms.usable(&asked, NOW + secs(age), false);
        let is_fresh = secs(age) < kept.terms.lifetime;
        if said.no_cache == super::super::directives::Reach::All || asked.no_cache {
            let is_asked = matches!(use_, Use::Validate { .. });
            prop_assert!(is_asked);
        }
        if said.must_revalidate || said.proxy_revalidate {
            let not_stale = Use::Validate { or_stale: false };
            prop_assert!(is_fresh || use_ == not_stale);
        }
        prop_assert!(use_ != Use::Fresh || is_fresh);
    }

    #[test]
    fn parts_lie_inside_and_apart(text in "bytes=[0-9,\\- ]{0,24}", length in 0_u64..200) {
        let Ranges::Parts(parts) = parse(&head(&format!("range: {text}")), length) else { return Ok(()) };
        prop_assert!(!parts.is_empty() && parts.iter().all(|part| part.first <= part.last && part.last < length));
        let mut sum = 0;
        for part in &parts {
            sum += part.count();
        }
        prop_assert!(sum <= length);
    }

    #[test]
    fn a_tag_that_is_kept_is_not_modified(tag in "(W/)?\"[!#-~]{0,10}\"") {
        let stored = head(&format!("etag: {tag}"));
        let request = head(&format!("if-none-match: \"zz z\", {tag}"));
        prop_assert_eq!(evaluate(&Method::GET, &request, &stored), Outcome::Proceed);
        let request = head(&format!("if-none-match: \"zzz\", {tag}"));
        prop_assert_eq!(evaluate(&Method::GET, &request, &stored), Outcome::NotModified);
    }
}

//! The cookies of a request (RFC 6265 section 5.4), as bytes: a name may be there several times, and
//! several fields make one list (RFC 9113 section 8.2.3).

use http::{HeaderMap, HeaderValue, header};

/// Name and value of each cookie, as they were written. What has no `=` is no cookie.
pub fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.get_all(header::COOKIE).iter().flat_map(pieces).filter_map(split)
}

/// The cookies but those whose names are to go, as one field. None if there is none of these;
/// `Some(None)` if there is no other.
pub fn without(headers: &HeaderMap, goes: impl Fn(&[u8]) -> bool) -> Option<Option<HeaderValue>> {
    if !pairs(headers).any(|(known, _)| goes(known)) {
        return None;
    }
    let all = headers.get_all(header::COOKIE).iter().flat_map(pieces);
    let rest: Vec<&[u8]> = all.filter(|piece| split(piece).is_none_or(|(known, _)| !goes(known))).collect();
    let rest = rest.join(&b"; "[..]);
    // Parts of values joined by what a value may hold are a value.
    Some(HeaderValue::from_bytes(&rest).ok().filter(|rest| !rest.is_empty()))
}

fn pieces(field: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    field.as_bytes().split(|c| *c == b';').map(<[u8]>::trim_ascii).filter(|piece| !piece.is_empty())
}

fn split(piece: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b'=', piece)?;
    Some((piece[..at].trim_ascii_end(), piece[at + 1..].trim_ascii_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(fields: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::COOKIE, field.parse().unwrap());
        }
        headers
    }

    fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        pairs(headers).map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn cookies_of_several_fields() {
        let read = texts(&headers(&["a=1; b=2;c = 3 ;; junk;=x", "a=4==;  d="]));
        let expected = [("a", "1"), ("b", "2"), ("c", "3"), ("", "x"), ("a", "4=="), ("d", "")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn one_is_taken_out() {
        let table: &[(&[&str], Option<Option<&str>>)] = &[
            (&["a=1; key=x; b=2"], Some(Some("a=1; b=2"))),
            (&["key=x"], Some(None)),
            (&["key=x; key=y", "key = z"], Some(None)),
            (&["a=1", "key=x"], Some(Some("a=1"))),
            (&["a=1; keys=x; Key=x; key"], None),
            (&[], None),
        ];
        for (fields, expected) in table {
            let rest = without(&headers(fields), |name| name == b"key");
            let rest = rest.as_ref().map(|rest| rest.as_ref().map(|value| value.to_str().unwrap()));
            assert_eq!(rest, *expected, "{fields:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_left_has_all_but_the_one(fields in proptest::collection::vec("[a-c=; ]{0,20}", 0..4)) {
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            let all = headers(&fields);
            let mut expected = texts(&all);
            expected.retain(|(name, _)| name != "a");
            match without(&all, |name| name == b"a") {
                None => prop_assert_eq!(texts(&all), expected),
                Some(None) => prop_assert!(expected.is_empty()),
                Some(Some(rest)) => prop_assert_eq!(texts(&headers(&[rest.to_str().unwrap()])), expected),
            }
        }
    }
}

//! Where a browser goes after its login: back to where it wanted to, and never anywhere else.

use std::fmt;

/// The longest that is kept; what is longer begins at the root instead.
const LONGEST: usize = 1024;

/// A path with its query on this very origin. A browser that is sent there stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnTo(Box<str>);

impl ReturnTo {
    /// The root.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// This target, if no browser would take it for another origin: it begins with one slash, and
    /// holds neither a backslash, which browsers take for a slash, nor a control character or a
    /// space, which they drop (WHATWG URL, section 4.4).
    pub fn parse(target: &str) -> Option<Self> {
        let bytes = target.as_bytes();
        let plain = bytes.iter().all(|c| c.is_ascii_graphic() && *c != b'\\');
        let rooted = bytes.first() == Some(&b'/') && bytes.get(1) != Some(&b'/');
        (plain && rooted && bytes.len() <= LONGEST).then(|| Self(target.into()))
    }

    /// A request's own path and query; the root where they are not fit.
    pub fn of(path: &str, query: Option<&str>) -> Self {
        let target = query.map(|query| format!("{path}?{query}"));
        Self::parse(target.as_deref().unwrap_or(path)).unwrap_or_else(Self::root)
    }

    /// The path with its query.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReturnTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_paths_of_this_origin() {
        for good in ["/", "/a", "/a/b?c=d&e=//evil.example", "/a//b", "/%2F%2Fevil", "/a?b=%0d%0a", "/@evil"]
        {
            assert_eq!(ReturnTo::parse(good).unwrap().as_str(), good);
        }
        let long = format!("/{}", "a".repeat(LONGEST));
        for bad in [
            "",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/a\\b",
            "https://evil.example",
            "evil.example",
            "javascript:alert(1)",
            "/\t/evil.example",
            "/\n/evil",
            "/a\r\nset-cookie: b=c",
            " /a",
            "/a b",
            "/\u{e9}",
            "/\0",
            "/\u{7f}",
            &long,
        ] {
            assert_eq!(ReturnTo::parse(bad), None, "{bad:?}");
        }
        assert_eq!(ReturnTo::of("//evil", None), ReturnTo::root());
        assert_eq!(ReturnTo::of("/a", Some("b=\\")), ReturnTo::root());
        assert_eq!(ReturnTo::of("/a", Some("b")).as_str(), "/a?b");
    }

    proptest! {
        #[test]
        fn a_browser_stays_on_the_origin(target in "[/\\\\a-z:@?#.%\t\n 0-9]{0,12}") {
            let base = url::Url::parse("https://app.example.com/oauth2/callback?code=x").unwrap();
            if let Some(target) = ReturnTo::parse(&target) {
                prop_assert_eq!(base.join(target.as_str()).unwrap().origin(), base.origin());
            }
        }
    }
}

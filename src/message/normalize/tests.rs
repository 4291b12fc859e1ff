use super::*;
use proptest::prelude::*;

const SAFE: Options = Options { slashes: Slashes::Merge, escapes: Escapes::Refuse };
const KEEP_SLASHES: Options = Options { slashes: Slashes::Keep, escapes: Escapes::Refuse };
const KEEP_ESCAPES: Options = Options { slashes: Slashes::Merge, escapes: Escapes::Keep };
const KEEP: Options = Options { slashes: Slashes::Keep, escapes: Escapes::Keep };

#[test]
fn the_default_is_the_safe_one() {
    assert_eq!(Options::default(), SAFE);
}

#[test]
fn a_normal_path_is_borrowed() {
    for path in [
        "/", "/a", "/a/", "/a/b.c", "/a/...", "/.a", "/..a", "/a;b=c/d", "/%C3%A9", "/a%20b", "/~-._",
        "/a:b@c", "/%25",
    ] {
        let normal = normalize(path, SAFE).unwrap();
        assert!(matches!(normal, Cow::Borrowed(_)), "{path}");
        assert_eq!(normal, path);
    }
}

#[test]
fn what_normalising_does() {
    for (path, normal) in [
        ("/%7euser/%61%2D%5f", "/~user/a-_"),
        ("/%c3%a9", "/%C3%A9"),
        ("/a%3fb%3B", "/a%3Fb%3B"),
        ("/%2541", "/%2541"),
        ("/a/./b", "/a/b"),
        ("/a/.", "/a/"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/b/../", "/a/"),
        ("/..", "/"),
        ("/../../a", "/a"),
        ("/a/../../../b", "/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a/%2e/b", "/a/b"),
        ("/a/%2e%2e%2e/b", "/a/.../b"),
        ("//a///b//", "/a/b/"),
        ("//", "/"),
        ("/a//../b", "/b"),
        ("/a/..//b", "/b"),
        ("/a;x/../b", "/b"),
        ("/a/;/b", "/a/;/b"),
    ] {
        assert_eq!(normalize(path, SAFE).unwrap(), normal, "{path}");
    }
}

#[test]
fn kept_slashes_are_segments() {
    for (path, normal) in [
        ("//a///b//", "//a///b//"),
        ("/a//../b", "/a/b"),
        ("/a/..//b", "//b"),
        ("/a//./b", "/a//b"),
        ("//..", "/"),
        ("/%41//%7e", "/A//~"),
    ] {
        assert_eq!(normalize(path, KEEP_SLASHES).unwrap(), normal, "{path}");
    }
}

#[test]
fn kept_escapes_are_upper_cased() {
    for (path, normal) in [
        ("/a%2fb", "/a%2Fb"),
        ("/a%5cb", "/a%5Cb"),
        ("/%ff%fe", "/%FF%FE"),
        ("/%c3", "/%C3"),
        ("/%2e%2e%2fa", "/..%2Fa"),
    ] {
        assert_eq!(normalize(path, KEEP_ESCAPES).unwrap(), normal, "{path}");
    }
}

#[test]
fn what_is_refused_under_all_options() {
    for (path, cause) in [
        ("", BadPath::NoLeadingSlash),
        ("*", BadPath::NoLeadingSlash),
        ("a/b", BadPath::NoLeadingSlash),
        ("%2Fa", BadPath::NoLeadingSlash),
        ("/a%", BadPath::BrokenEscape),
        ("/a%4", BadPath::BrokenEscape),
        ("/a%4/", BadPath::BrokenEscape),
        ("/%zz", BadPath::BrokenEscape),
        ("/%+1", BadPath::BrokenEscape),
        ("/%%41", BadPath::BrokenEscape),
        ("/a%00", BadPath::EscapedNul),
        ("/a\\b", BadPath::Backslash),
        ("/a b", BadPath::Control),
        ("/a\tb", BadPath::Control),
        ("/a\r\nb", BadPath::Control),
        ("/a\0", BadPath::Control),
        ("/a\x7F", BadPath::Control),
        ("/é", BadPath::NotAscii),
        ("/a?b", BadPath::Delimiter),
        ("/a#b", BadPath::Delimiter),
        ("/a/..;/b", BadPath::DotSegmentWithParameters),
        ("/a/.;x=1", BadPath::DotSegmentWithParameters),
        ("/a/%2e%2e;/b", BadPath::DotSegmentWithParameters),
        ("/a/..%3b/b", BadPath::DotSegmentWithParameters),
        ("/a/%2E.%3Bx/b", BadPath::DotSegmentWithParameters),
    ] {
        for options in [SAFE, KEEP_SLASHES, KEEP_ESCAPES, KEEP] {
            assert_eq!(normalize(path, options), Err(cause), "{path:?} {options:?}");
        }
    }
}

#[test]
fn what_is_refused_unless_escapes_are_kept() {
    for (path, cause) in [
        ("/a%2fb", BadPath::EscapedSlash),
        ("/a%2Fb", BadPath::EscapedSlash),
        ("/a%5cb", BadPath::EscapedBackslash),
        ("/%ff", BadPath::NotUtf8),
        ("/%c3", BadPath::NotUtf8),
        ("/%c3/%a9", BadPath::NotUtf8),
        ("/%c3a", BadPath::NotUtf8),
        ("/%a9", BadPath::NotUtf8),
        ("/%c0%af", BadPath::NotUtf8),
        ("/%e0%80%af", BadPath::NotUtf8),
        ("/%ed%a0%80", BadPath::NotUtf8),
        ("/%f4%90%80%80", BadPath::NotUtf8),
        ("/%f0%9f%98", BadPath::NotUtf8),
    ] {
        assert_eq!(normalize(path, SAFE), Err(cause), "{path}");
        assert!(normalize(path, KEEP_ESCAPES).is_ok(), "{path}");
    }
    assert_eq!(normalize("/%f0%9f%98%80%e2%82%ac", SAFE).unwrap(), "/%F0%9F%98%80%E2%82%AC");
}

fn options() -> impl Strategy<Value = Options> {
    prop::sample::select(vec![SAFE, KEEP_SLASHES, KEEP_ESCAPES, KEEP])
}

/// Paths of the pieces that matter, so that most are not refused.
fn paths() -> impl Strategy<Value = String> {
    let pieces = vec![
        "/", "/", "/", ".", "..", "a", "B", "~", ";x", "%2e", "%2E", "%61", "%c3%a9", "%25", "%3b", "%2f",
        "%ff", "%20",
    ];
    prop::collection::vec(prop::sample::select(pieces), 0..12)
        .prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #[test]
    fn normalising_twice_changes_nothing(path in paths(), options in options()) {
        if let Ok(once) = normalize(&path, options) {
            let twice = normalize(&once, options);
            prop_assert!(matches!(twice, Ok(Cow::Borrowed(_))), "{once} {twice:?}");
            prop_assert_eq!(twice.unwrap(), &*once);
        }
    }

    #[test]
    fn a_normal_path_has_no_dot_segments_and_no_lower_case_escapes(path in paths(), options in options()) {
        if let Ok(normal) = normalize(&path, options) {
            prop_assert!(normal.starts_with('/'));
            prop_assert!(normal.split('/').all(|segment| segment != "." && segment != ".."), "{}", normal);
            prop_assert!(options.slashes == Slashes::Keep || !normal.contains("//"), "{}", normal);
            for escape in normal.split('%').skip(1) {
                prop_assert!(!escape[..2].contains(|c: char| c.is_ascii_lowercase()), "{}", normal);
            }
        }
    }

    #[test]
    fn the_same_path_written_otherwise_is_the_same(path in "/[a-z/._~-]{0,12}", escaped in prop::collection::vec(any::<bool>(), 12)) {
        let other: String = path.bytes().enumerate().map(|(at, byte)| {
            let escape = byte != b'/' && at > 0 && escaped[at - 1];
            if escape { format!("%{byte:02x}") } else { char::from(byte).to_string() }
        }).collect();
        prop_assert_eq!(normalize(&path, SAFE), normalize(&other, SAFE));
    }

    #[test]
    fn no_text_makes_it_panic(path in ".*", options in options()) {
        let _ = normalize(&path, options);
        let _ = normalize(&format!("/{path}"), options);
    }
}

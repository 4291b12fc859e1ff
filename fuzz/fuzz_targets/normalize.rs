//! Normalising never panics, twice is once, and the result has no dot segments.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::message::normalize::{Escapes, Options, Slashes, normalize};

fuzz_target!(|input: (&str, bool, bool)| {
    let (path, keep_slashes, keep_escapes) = input;
    let options = Options {
        slashes: if keep_slashes { Slashes::Keep } else { Slashes::Merge },
        escapes: if keep_escapes { Escapes::Keep } else { Escapes::Refuse },
    };
    let Ok(normal) = normalize(path, options) else {
        return;
    };
    assert_eq!(normalize(&normal, options).as_deref(), Ok(&*normal));
    assert!(normal.starts_with('/'));
    assert!(normal.split('/').all(|segment| segment != "." && segment != ".."));
    assert!(keep_slashes || !normal.contains("//"));
    assert!(keep_escapes || !normal.contains("%2F"));
});

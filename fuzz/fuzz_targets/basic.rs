//! Whatever comes behind `Basic`: nothing panics, and what is read is what was sent.

#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use tollgate::policy::authenticate::basic::parse;

fn check(token: &str) {
    if let Some((user, password)) = parse(token) {
        assert!(!user.is_empty() && !user.contains(':'));
        assert_eq!(STANDARD.encode([user.as_bytes(), b":", &password].concat()), token);
    }
}

fuzz_target!(|input: (&str, &[u8])| {
    let (token, plain) = input;
    check(token);
    check(&STANDARD.encode(plain));
});

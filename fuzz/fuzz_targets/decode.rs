//! Decoding never panics and never gives more than its bounds allow; what we code comes back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::message::negotiate::Coding;
use tollgate::policy::shared::coding::{Bounds, Encoder, decode};

fuzz_target!(|input: (&[u8], &[u8], u8, u16)| {
    let (names, body, coding, size) = input;
    let bounds = Bounds { size: u64::from(size), ratio: 50 };
    if let Ok(decoded) = decode([names], &body.to_vec().into(), bounds) {
        assert!(decoded.len() <= usize::from(size).max(body.len()));
    }
    let coding = Coding::ALL[usize::from(coding) % Coding::ALL.len()];
    let coded = Encoder::new(coding, 3).and_then(|mut encoder| encoder.finish(body)).expect("memory");
    let wide = Bounds { size: 1 << 20, ratio: 1 << 20 };
    assert_eq!(decode([coding.name().as_bytes()], &coded, wide).as_deref(), Ok(body));
    let _ = decode([coding.name().as_bytes()], &body.to_vec().into(), bounds).map(|decoded| {
        assert!(decoded.len() <= usize::from(size));
    });
});

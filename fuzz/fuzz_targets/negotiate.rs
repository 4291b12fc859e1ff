//! Reading `accept-encoding` never panics, and only what is offered and accepted is chosen.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::message::negotiate::{AcceptEncoding, Choice, Coding};

fuzz_target!(|input: (Vec<&[u8]>, u8)| {
    let (lines, offered) = input;
    let offered: Vec<Coding> =
        Coding::ALL.into_iter().enumerate().filter(|(at, _)| offered & (1 << at) != 0).map(|(_, coding)| coding).collect();
    let accepted = AcceptEncoding::parse(lines.iter().copied());
    if let Choice::Coded { coding, .. } = accepted.choose(&offered) {
        assert!(offered.contains(&coding));
        assert!(matches!(accepted.choose(&[coding]), Choice::Coded { .. }), "it is accepted alone as well");
    }
});

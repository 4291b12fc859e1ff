//! Reading a PROXY header never panics, never reads on for ever, and never takes a byte behind it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::listen::proxy_protocol::Header;

fuzz_target!(|bytes: &[u8]| {
    let mut taken = 0;
    loop {
        let more = match Header::parse(&bytes[..taken]) {
            Ok(Header::Needs(more)) => more,
            Ok(Header::NeedsLine) => 1,
            Ok(Header::Client(_) | Header::Local) => {
                let longer = &bytes[..bytes.len().min(taken + 1)];
                assert!(longer.len() == taken || Header::parse(longer).is_err());
                return;
            }
            Err(_) => return,
        };
        assert!(more > 0);
        taken += more;
        if taken > bytes.len() {
            return;
        }
        assert!(taken <= 4096);
    }
});

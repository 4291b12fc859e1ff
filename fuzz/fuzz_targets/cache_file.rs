//! Whatever stands in a file of the disk cache: nothing panics, and what is read fits into the file it was
//! read from. The fields are fuzzed behind a checksum that fits as well, since another version of the
//! program may have written it; so is the journal of purges.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::cache::disk::format::{PIECE, decode, parse, prefix};
use tollgate::cache::disk::index::Name;
use tollgate::cache::disk::journal;

fuzz_target!(|bytes: &[u8]| {
    let _ = prefix(bytes);
    let _ = decode(bytes);
    if let Some(record) = parse(bytes) {
        assert_eq!(record.sums.len() as u64, record.length.div_ceil(PIECE as u64));
        assert!(record.key.len() + record.variant.len() + 8 * record.sums.len() <= bytes.len());
    }
    let _ = journal::read(bytes);
    if let Some(name) = std::str::from_utf8(bytes).ok().and_then(Name::parse) {
        assert_eq!(name.to_string().as_bytes(), bytes);
    }
});

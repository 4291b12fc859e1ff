//! The form of files and of the journal.

use super::super::files::{Fault, Folder, Opened};
use super::super::format::{self, PIECE, PREFIX};
use super::super::index::Name;
use super::super::journal::{self, Journal};
use super::{key, object, pattern};
use crate::cache::rules::storing::Terms;
use crate::cache::store::object::{Body, Object};
use crate::cache::store::purge::{Purge, Target};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

fn encoded(key: &str, object: &Object, body: &[u8]) -> Option<Vec<u8>> {
    let sums = format::sums(body.chunks(1000));
    let mut file = format::encode(key, object, (body.len() as u64, &sums))?;
    file.extend_from_slice(body);
    Some(file)
}

fn head_of(file: &[u8]) -> &[u8] {
    &file[..PREFIX + format::prefix(file).unwrap().head]
}

fn durations() -> impl Strategy<Value = Duration> {
    (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

prop_compose! {
    fn objects()(
        status in 100..1000_u16,
        times in [durations(), durations(), durations(), durations(), durations()],
        flags in any::<[bool; 2]>(),
        fields in vec(("[a-z][a-z0-9-]{0,20}", vec(0x20..0x7f_u8, 0..100)), 0..30),
        varies in any::<bool>(),
        variant in vec(any::<u8>(), 0..200),
        tags in vec(any::<u64>(), 0..20),
        born in any::<u64>(),
    ) -> Object {
        let mut object = object(born, &[], &HeaderMap::new(), b"").with_body(Body::Whole(Arc::new(crate::cache::store::body::Whole::new(&[]))));
        let [answered, initial_age, lifetime, grace, stale_if_error] = times;
        let [no_cache, must_revalidate] = flags;
        let mut headers = HeaderMap::new();
        for (name, value) in fields.iter().filter(|(name, _)| name != "vary") {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap());
        }
        if varies {
            headers.insert("vary", HeaderValue::from_static("accept, x-b"));
        }
        object.head.status = StatusCode::from_u16(status).unwrap();
        object.head.terms =
            Terms { answered, initial_age, lifetime, grace, stale_if_error, no_cache, must_revalidate };
        object.head.vary = crate::cache::rules::vary::Vary::of(&headers).unwrap();
        object.head.headers = Arc::new(headers);
        object.variant = variant.into();
        object.tags = tags.into();
        object
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        object in objects(),
        key in "[ -~]{1,300}\n[ -~]{1,50}",
        body in vec(any::<u8>(), 0..3000),
    ) {
        let file = encoded(&key, &object, &body).unwrap();
        let record = format::decode(head_of(&file)).unwrap();
        prop_assert_eq!(&*record.key, key.as_str());
        prop_assert_eq!(record.head.status, object.head.status);
        prop_assert_eq!(record.head.terms, object.head.terms);
        prop_assert_eq!(&record.head.headers, &object.head.headers);
        prop_assert_eq!(&record.head.vary, &object.head.vary);
        prop_assert_eq!(&record.variant, &object.variant);
        prop_assert_eq!(&record.tags, &object.tags);
        prop_assert_eq!(record.born, object.born);
        prop_assert_eq!(record.length, body.len() as u64);
        prop_assert_eq!(record.file_length(head_of(&file).len() - PREFIX), file.len() as u64);
    }

    #[test]
    fn a_head_that_was_changed_is_none(object in objects(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let file = encoded("https://a/\nt\nr", &object, b"body").unwrap();
        let mut head = head_of(&file).to_vec();
        let at = at.index(head.len());
        head[at] ^= 1 << bit;
        prop_assert!(format::decode(&head).is_none(), "byte {} bit {}", at, bit);
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in vec(any::<u8>(), 0..600)) {
        let _ = format::prefix(&bytes);
        prop_assert!(format::decode(&bytes).is_none());
        // The fields behind a checksum that fits.
        let _ = format::parse(&bytes);
    }

    #[test]
    fn a_purge_is_read_as_it_was_written(
        text in "(?s).{0,80}",
        kind in 0..4_u8,
        soft in any::<bool>(),
        tag in any::<u64>(),
    ) {
        let text: Box<str> = text.into();
        let target = match kind {
            0 => Target::Host(text),
            1 => Target::Prefix(text),
            2 => Target::Url(text),
            _ => Target::Tag(tag),
        };
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let purge = Purge { target, soft };
        let (mut journal, _) = Journal::open(&folder).unwrap();
        journal.append(&purge, 7).unwrap();
        let (mut again, is_new) = Journal::open(&folder).unwrap();
        let said = again.news().unwrap();
        prop_assert_eq!((is_new, said.is_damaged), (false, false));
        prop_assert_eq!(said.purges, vec![(purge, 7)]);
    }
}

/// Every byte of a file counts: with any of them changed, or with the end of it gone, nothing of it that
/// is not as it was written is served.
#[test]
fn no_byte_of_a_file_can_change_unseen() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::open(root.path()).unwrap();
    let key = key("https://a/x");
    let name = Name::of(key.as_str(), b"");
    let object = object(5, &[("etag", "\"1\""), ("surrogate-key", "a b")], &HeaderMap::new(), b"");
    let body = pattern(1, PIECE + 300);
    let file = encoded(key.as_str(), &object, &body).unwrap();
    let reads = |file: &[u8]| {
        std::fs::write(folder.path(name), file).unwrap();
        match folder.object(name).unwrap() {
            Opened::Sound(sound) => {
                let pieces: Result<Vec<_>, Fault> = (0..sound.pieces()).map(|at| sound.piece(at)).collect();
                pieces.ok().map(|pieces| pieces.concat())
            }
            Opened::Damaged => None,
            Opened::Missing => unreachable!("it was just written"),
        }
    };
    assert_eq!(reads(&file), Some(body));
    let end = head_of(&file).len();
    let places = (0..end + 50).chain((end + 50..file.len()).step_by(997)).chain(file.len() - 300..file.len());
    for at in places {
        let mut changed = file.clone();
        changed[at] = changed[at].wrapping_add(1);
        assert_eq!(reads(&changed), None, "byte {at} was changed");
    }
    for length in (0..end + 2).chain([end + PIECE, file.len() - 1]) {
        assert_eq!(reads(&file[..length]), None, "only {length} bytes are there");
    }
    let longer = [file.as_slice(), b"x"].concat();
    assert_eq!(reads(&longer), None, "a byte more");
}

#[test]
fn a_body_has_its_sums_however_it_is_cut() {
    let body = pattern(2, 3 * PIECE + 17);
    let expected: Vec<u64> = body.chunks(PIECE).map(format::sum).collect();
    for size in [1, 7, 1000, PIECE - 1, PIECE, PIECE + 1, body.len()] {
        assert_eq!(*format::sums(body.chunks(size)), *expected, "pieces of {size}");
    }
    assert!(format::sums(std::iter::empty()).is_empty());
}

#[test]
fn a_head_that_is_too_large_is_not_written() {
    let value = "x".repeat(format::LARGEST_HEAD);
    let object = object(5, &[("x-large", &value)], &HeaderMap::new(), b"");
    assert!(encoded("https://a/\nt\nr", &object, b"").is_none());
}

#[test]
fn names_are_read_as_they_are_written_and_in_no_other_way() {
    for (key, variant) in [("https://a/\nt", &b""[..]), ("x", b"accept:de\n")] {
        let name = Name::of(key, variant);
        assert_eq!(Name::parse(&name.to_string()), Some(name));
    }
    let name = Name::of("x", b"").to_string();
    let upper = name.to_ascii_uppercase().replace(|c: char| c.is_ascii_digit(), "A");
    for wrong in ["", "x", &name[1..], &upper, &format!("{name}0"), &format!("+{}", &name[1..])] {
        assert_eq!(Name::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn a_journal_tells_a_line_that_did_not_end_from_one_that_was_changed() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::open(root.path()).unwrap();
    let path = root.path().join("purges");
    let purge = |n: u64| Purge { target: Target::Tag(n), soft: n.is_multiple_of(2) };
    let (mut journal, _) = Journal::open(&folder).unwrap();
    for n in 0..3 {
        journal.append(&purge(n), n).unwrap();
    }
    let all = std::fs::read(&path).unwrap();
    std::fs::write(&path, &all[..all.len() - 4]).unwrap();
    let (mut journal, _) = Journal::open(&folder).unwrap();
    let said = journal.news().unwrap();
    assert_eq!((said.purges.len(), said.is_damaged), (2, false), "the third was being written");
    journal.append(&purge(9), 9).unwrap();
    let said = Journal::open(&folder).unwrap().0.news().unwrap();
    assert_eq!(said.purges, vec![(purge(0), 0), (purge(1), 1), (purge(9), 9)]);
    assert!(!said.is_damaged);
    for at in 0..all.len() {
        let mut changed = all.clone();
        changed[at] ^= 1;
        let said = journal::read(&changed);
        let is_end = at == all.len() - 1;
        assert!(said.is_damaged || is_end, "byte {at}");
    }
}

/// A sweep that comes between the making of a file and its lock took it away, and its write came to nothing.
#[test]
fn a_sweep_takes_nothing_from_a_writer_that_lives() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::open(root.path()).unwrap();
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                folder.sweep_temporary();
            }
        });
        for turn in 0..2000_u32 {
            let kept = root.path().join("kept");
            let outcome = folder.temporary().and_then(|mut file| {
                file.write(&turn.to_be_bytes())?;
                file.keep(&kept)
            });
            is_done.store(outcome.is_err() || turn == 1999, std::sync::atomic::Ordering::Relaxed);
            outcome.unwrap();
            assert_eq!(std::fs::read(&kept).unwrap(), turn.to_be_bytes());
        }
    });
    std::fs::write(root.path().join("tmp/of-somebody-who-died"), "half").unwrap();
    assert_eq!(folder.sweep_temporary(), 1);
}

use super::Coding::{Brotli, Gzip, Zstd};
use super::*;
use proptest::prelude::*;

const OURS: [Coding; 3] = [Zstd, Brotli, Gzip];

fn choose(value: &str) -> Choice {
    AcceptEncoding::parse([value.as_bytes()]).choose(&OURS)
}

fn coded(coding: Coding) -> Choice {
    Choice::Coded { coding, identity: true }
}

#[test]
fn the_best_weight_decides_and_between_equals_our_order() {
    for (value, expected) in [
        ("", Choice::Identity),
        ("gzip", coded(Gzip)),
        ("GZip", coded(Gzip)),
        ("x-gzip", coded(Gzip)),
        ("gzip, br", coded(Brotli)),
        ("gzip, deflate, br, zstd", coded(Zstd)),
        ("gzip;q=1.0, br;q=0.8", coded(Gzip)),
        ("gzip ; q=0.2 ,br;Q=0.3", coded(Brotli)),
        ("gzip;q=0", Choice::Identity),
        ("gzip;q=0.000", Choice::Identity),
        ("gzip;q=0.001", coded(Gzip)),
        ("deflate, compress", Choice::Identity),
        ("*", coded(Zstd)),
        ("*;q=0.5, gzip;q=0.6", coded(Gzip)),
        ("*;q=0.5, gzip;q=0.4", coded(Zstd)),
        ("zstd;q=0, *", coded(Brotli)),
        ("identity", Choice::Identity),
        ("identity, gzip", coded(Gzip)),
        ("identity;q=1, gzip;q=0.5", Choice::Identity),
        ("identity;q=0.5, gzip;q=0.5", coded(Gzip)),
        ("gzip, identity;q=0", Choice::Coded { coding: Gzip, identity: false }),
        ("br, *;q=0", Choice::Coded { coding: Brotli, identity: false }),
        ("br, *;q=0, identity;q=0.1", coded(Brotli)),
        ("identity;q=0", Choice::Identity),
        ("*;q=0", Choice::Identity),
    ] {
        assert_eq!(choose(value), expected, "{value:?}");
    }
}

#[test]
fn what_cannot_be_read_is_not_accepted() {
    for value in [
        "gzip;q=",
        "gzip;q=2",
        "gzip;q=1.1",
        "gzip;q=0.1234",
        "gzip;q=.5",
        "gzip;q=-1",
        "gzip;level=9",
        "gzip;q=0.5;x=1",
        "gzip;q=0,5",
        "gzip;",
        "gzip br",
        ";q=1",
        "\u{fffd}",
        "gzip;q=1.",
        "gzip;q=abc, *;q=0",
    ] {
        let expected = if value == "gzip;q=1." { coded(Gzip) } else { Choice::Identity };
        assert_eq!(choose(value), expected, "{value:?}");
    }
}

#[test]
fn several_lines_are_one_list() {
    let lines = [&b"br;q=0.5"[..], b"gzip", b"", b"gzip;q=0"];
    assert_eq!(AcceptEncoding::parse(lines).choose(&OURS), coded(Gzip), "the first mention counts");
}

/// A list of codings with weights in thousandths, as a client would write it.
fn written(items: &[(usize, u16)]) -> String {
    let names = ["gzip", "br", "zstd", "identity", "*", "deflate"];
    let items = items.iter().map(|(name, weight)| match weight {
        1000 => names[*name].to_owned(),
        weight => format!("{};q=0.{weight:03}", names[*name]),
    });
    items.collect::<Vec<_>>().join(", ")
}

proptest! {
    #[test]
    fn nothing_panics_and_only_what_is_offered_is_chosen(
        line in proptest::collection::vec(any::<u8>(), 0..64),
        offered in proptest::sample::subsequence(OURS.to_vec(), 0..3),
    ) {
        if let Choice::Coded { coding, .. } = AcceptEncoding::parse([&line[..]]).choose(&offered) {
            prop_assert!(offered.contains(&coding));
        }
    }

    /// RFC 9110 section 12.5.3, said in another way than the code says it.
    #[test]
    fn no_coding_that_the_client_likes_better_is_passed_over(
        weights in proptest::collection::vec(0_u16..=1000, 6),
        order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle(),
        length in 0_usize..=6,
    ) {
        let items: Vec<(usize, u16)> = order.iter().take(length).map(|name| (*name, weights[*name])).collect();
        let given = |name: usize| items.iter().find(|(known, _)| *known == name).map(|(_, weight)| *weight);
        let of = |coding: Coding| given(match coding { Gzip => 0, Brotli => 1, Zstd => 2 }).or(given(4)).unwrap_or(0);
        let best = OURS.into_iter().map(of).max().unwrap_or(0);
        match choose(&written(&items)) {
            Choice::Coded { coding, identity } => {
                prop_assert_eq!(of(coding), best);
                prop_assert!(best > 0 && given(3).is_none_or(|identity| identity <= best));
                prop_assert_eq!(identity, given(3).or(given(4)) != Some(0));
                let first = OURS.into_iter().find(|ours| of(*ours) == best);
                prop_assert_eq!(first, Some(coding), "our order decides between equals");
            }
            Choice::Identity => prop_assert!(best == 0 || given(3).is_some_and(|identity| identity > best)),
        }
    }
}

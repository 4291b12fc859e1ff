use super::*;
use proptest::prelude::*;

const WIDE: Bounds = Bounds { size: 1 << 30, ratio: 1 << 20 };

fn level(coding: Coding) -> u8 {
    match coding {
        Coding::Gzip | Coding::Zstd => 3,
        Coding::Brotli => 4,
    }
}

fn encode(coding: Coding, body: &[u8]) -> Bytes {
    Encoder::new(coding, level(coding)).unwrap().finish(body).unwrap()
}

fn any_coding() -> impl Strategy<Value = Coding> {
    proptest::sample::select(Coding::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_coded_in_pieces_is_decoded_whole(
        coding in any_coding(),
        pieces in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..2000), any::<bool>()), 0..8),
    ) {
        let mut encoder = Encoder::new(coding, level(coding)).unwrap();
        let mut coded = Vec::new();
        for (piece, flush) in &pieces {
            coded.extend(encoder.push(piece, *flush).unwrap());
        }
        coded.extend(encoder.finish(b"end").unwrap());
        let body = pieces.iter().flat_map(|(piece, _)| piece.clone()).chain(*b"end").collect::<Vec<u8>>();
        prop_assert_eq!(decode([coding.name().as_bytes()], &coded.into(), WIDE).unwrap(), body);
    }

    #[test]
    fn nothing_panics_and_nothing_outgrows_its_bounds(
        coding in any_coding(),
        mut body in proptest::collection::vec(any::<u8>(), 0..3000),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        genuine in any::<bool>(),
    ) {
        if genuine {
            body = encode(coding, &body).to_vec();
        }
        for (at, byte) in damage {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
        }
        let bounds = Bounds { size: 1000, ratio: 100 };
        if let Ok(decoded) = decode([coding.name().as_bytes()], &body.into(), bounds) {
            prop_assert!(decoded.len() <= 1000);
        }
    }
}

#[test]
fn who_reads_along_misses_nothing_that_was_flushed() {
    for coding in Coding::ALL {
        let mut encoder = Encoder::new(coding, level(coding)).unwrap();
        let mut coded = encoder.push(b"one", true).unwrap().to_vec();
        assert!(partly(coding, &coded).starts_with(b"one"), "{coding:?}");
        coded.extend(encoder.push(b"", true).unwrap());
        coded.extend(encoder.push(b", two", true).unwrap());
        assert!(partly(coding, &coded).starts_with(b"one, two"), "{coding:?}");
        coded.extend(encoder.finish(b"").unwrap());
        assert_eq!(decode([coding.name().as_bytes()], &coded.into(), WIDE).unwrap(), "one, two");
        assert!(encoder.push(b"more", false).is_err(), "it has ended");
    }
}

/// What a reader makes of a stream that has not ended.
fn partly(coding: Coding, coded: &[u8]) -> Vec<u8> {
    let mut reader: Box<dyn Read + '_> = match coding {
        Coding::Gzip => Box::new(flate2::read::GzDecoder::new(coded)),
        Coding::Brotli => Box::new(brotli::Decompressor::new(coded, 4096)),
        Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(coded).unwrap()),
    };
    let mut decoded = Vec::new();
    let mut byte = [0];
    while matches!(reader.read(&mut byte), Ok(1)) {
        decoded.push(byte[0]);
    }
    decoded
}

#[test]
fn a_bomb_does_not_go_off() {
    let zeros = vec![0_u8; 8 << 20];
    for coding in Coding::ALL {
        let bomb = encode(coding, &zeros);
        assert!(bomb.len() < 20_000, "{coding:?}: {}", bomb.len());
        let name = coding.name().as_bytes();
        let within = |size, ratio| decode([name], &bomb, Bounds { size, ratio }).map(|body| body.len());
        assert_eq!(within(8 << 20, 1 << 20), Ok(8 << 20), "{coding:?}");
        assert_eq!(within((8 << 20) - 1, 1 << 20), Err(DecodeError::TooLarge), "{coding:?}: by size");
        assert_eq!(within(1 << 30, 20), Err(DecodeError::TooLarge), "{coding:?}: by ratio");
        let twice = encode(coding, &bomb);
        let nested = decode([name, name], &twice, Bounds { size: 1 << 20, ratio: 1 << 20 });
        assert_eq!(
            nested.map(|body| body.len()),
            Err(DecodeError::TooLarge),
            "{coding:?}: inside of another"
        );
    }
    let small = encode(Coding::Gzip, &[0; 60_000]);
    assert!(decode([&b"gzip"[..]], &small, Bounds { size: 1 << 20, ratio: 1 }).is_ok(), "no harm is in it");
}

#[test]
fn codings_come_off_from_the_last_to_the_first() {
    let coded = encode(Coding::Brotli, &encode(Coding::Gzip, b"content"));
    let decoded = |lines: &[&str]| decode(lines.iter().map(|line| line.as_bytes()), &coded, WIDE);
    assert_eq!(decoded(&["gzip, BR"]).unwrap(), "content");
    assert_eq!(decoded(&["X-GZIP", "identity", "br"]).unwrap(), "content");
    assert_eq!(decoded(&["br, gzip"]), Err(DecodeError::Malformed));
    assert_eq!(decoded(&["gzip, compress"]), Err(DecodeError::Unsupported));
    assert_eq!(decoded(&["gzip, gzip, br"]), Err(DecodeError::Unsupported));
    assert_eq!(decoded(&[]).unwrap(), coded);
    for coding in Coding::ALL {
        let whole = encode(coding, b"all of it, and no less");
        let cut = whole.slice(..whole.len() - 1);
        assert_eq!(decode([coding.name().as_bytes()], &cut, WIDE), Err(DecodeError::Malformed), "{coding:?}");
    }
}

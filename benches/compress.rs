//! What an answer pays for being compressed: time by coding and level, as a whole and as a stream of
//! pieces that are flushed, and memory for each stream.
#![expect(clippy::print_stderr, reason = "a bench that reports memory, which criterion cannot")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::fmt::Write as _;
use std::hint::black_box;
use tollgate::message::negotiate::{AcceptEncoding, Coding};
use tollgate::policy::shared::coding::{Bounds, Encoder, decode};

const LEVELS: [(Coding, &[u8]); 3] =
    [(Coding::Gzip, &[1, 4, 6, 9]), (Coding::Brotli, &[1, 4, 6, 9]), (Coding::Zstd, &[1, 3, 6, 12])];

/// JSON as services write it: names that come again, values that do not.
fn body(size: usize) -> Vec<u8> {
    let mut text = String::from("[");
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    while text.len() < size {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (id, price) = (seed >> 40, (seed >> 20) % 10_000);
        let _ = write!(
            text,
            "{{\"id\":{id},\"name\":\"order {}\",\"price\":{price},\"currency\":\"EUR\"}},",
            id % 97
        );
    }
    text.truncate(size);
    text.into_bytes()
}

fn whole(body: &[u8], coding: Coding, level: u8) -> bytes::Bytes {
    Encoder::new(coding, level).and_then(|mut encoder| encoder.finish(body)).unwrap_or_default()
}

fn codings(criterion: &mut Criterion) {
    let body = body(64 << 10);
    for (coding, levels) in LEVELS {
        let mut group = criterion.benchmark_group(coding.name());
        group.throughput(Throughput::Bytes(body.len() as u64));
        for level in levels {
            eprintln!(
                "{} {level}: {} of {} bytes",
                coding.name(),
                whole(&body, coding, *level).len(),
                body.len()
            );
            group.bench_with_input(BenchmarkId::new("whole", level), level, |bencher, level| {
                bencher.iter(|| whole(black_box(&body), coding, *level));
            });
        }
        group.bench_function("pieces of 1 KiB, flushed", |bencher| {
            bencher.iter(|| {
                let mut encoder = Encoder::new(coding, levels[1]).ok()?;
                let pieces = body.chunks(1024).map_while(|piece| encoder.push(black_box(piece), true).ok());
                Some(pieces.map(|piece| piece.len()).sum::<usize>())
            });
        });
        let coded = whole(&body, coding, levels[1]);
        let bounds = Bounds { size: 1 << 20, ratio: 1000 };
        group.bench_function("decoded", |bencher| {
            bencher.iter(|| decode([coding.name().as_bytes()], black_box(&coded), bounds));
        });
        group.finish();
    }
}

fn negotiation(criterion: &mut Criterion) {
    let line = "gzip, deflate, br;q=0.9, zstd;q=0.8, *;q=0.1";
    criterion.bench_function("accept-encoding", |bencher| {
        bencher.iter(|| AcceptEncoding::parse([black_box(line.as_bytes())]).choose(&Coding::ALL));
    });
}

/// Resident memory of streams that are under way, in KiB each.
fn memory(_: &mut Criterion) {
    const STREAMS: usize = 100;
    let body = body(1 << 20);
    for (coding, levels) in LEVELS {
        for level in levels {
            let before = resident_kib();
            let mut streams = Vec::with_capacity(STREAMS);
            for _ in 0..STREAMS {
                let Ok(mut encoder) = Encoder::new(coding, *level) else { return };
                let _ = encoder.push(&body, true);
                streams.push(encoder);
            }
            let each = resident_kib().saturating_sub(before) / STREAMS;
            eprintln!("{} {level}: {each} KiB a stream", coding.name());
        }
    }
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

criterion_group!(benches, memory, negotiation, codings);
criterion_main!(benches);

//! Random numbers for identifiers and samples: fast, seeded by the operating system, one generator
//! for each thread. They are not secret.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};

thread_local! {
    static STATE: Cell<[u64; 4]> = Cell::new(seed());
}

/// The next number of this thread's xoshiro256++ (Blackman and Vigna, "Scrambled linear
/// pseudorandom number generators", 2021). Its 256 bits of state make equal sequences in two
/// threads or processes as unlikely as equal seeds.
pub fn next_u64() -> u64 {
    let [a, b, c, d] = STATE.get();
    let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
    let c = c ^ a;
    let d = d ^ b;
    STATE.set([a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)]);
    result
}

/// `RandomState` is the one way to the system's randomness in `std`: 128 bits of it key a SipHash.
fn seed() -> [u64; 4] {
    let keyed = RandomState::new();
    let word = |number: u64| {
        let mut hasher = keyed.build_hasher();
        hasher.write_u64(number);
        hasher.finish()
    };
    // The lowest bit keeps the state from being all zero, the only one that never leaves itself.
    [word(0) | 1, word(1), word(2), word(3)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn threads_draw_different_numbers() {
        let draw = || (0..1000).map(|_| next_u64()).collect::<Vec<_>>();
        let other = std::thread::spawn(draw).join().unwrap();
        let all: HashSet<u64> = draw().into_iter().chain(other).collect();
        assert_eq!(all.len(), 2000);
    }

    #[test]
    fn the_sequence_is_that_of_the_published_generator() {
        STATE.set([1, 2, 3, 4]);
        let drawn: Vec<u64> = (0..4).map(|_| next_u64()).collect();
        assert_eq!(drawn, [41943041, 58720359, 3588806011781223, 3591011842654386]);
    }
}

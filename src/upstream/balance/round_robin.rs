//! Weighted round robin.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The longest round that is written down; larger sums of weights are scaled to it.
const LONGEST_ROUND: usize = 65_536;

/// Smooth weighted round robin: a whole round is worked out when it is compiled, in the order in
/// which nginx's algorithm would give it, so that a pick is one atomic addition and no lock.
#[derive(Debug)]
pub struct RoundRobin {
    round: Box<[u32]>,
}

impl RoundRobin {
    /// Works out a round. An endpoint of weight zero is not in it.
    pub fn new(weights: &[u16]) -> Self {
        let sum: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
        let divisor = weights.iter().map(|weight| usize::from(*weight)).fold(0, gcd).max(1);
        let scale = |weight: u16| -> i64 {
            let weight = usize::from(weight);
            let scaled = if sum / divisor <= LONGEST_ROUND {
                weight / divisor
            } else {
                (weight * LONGEST_ROUND / sum).max(weight.min(1))
            };
            scaled as i64
        };
        let weights: Vec<i64> = weights.iter().map(|weight| scale(*weight)).collect();
        let total: i64 = weights.iter().sum();
        if weights.iter().all(|weight| *weight <= 1) {
            let equal = (0..weights.len()).filter(|at| weights[*at] == 1).map(|at| at as u32);
            return Self { round: equal.collect() };
        }
        let mut current = vec![0_i64; weights.len()];
        let round = (0..total).map(|_| {
            let mut best = 0;
            for at in 0..weights.len() {
                current[at] += weights[at];
                if current[at] > current[best] {
                    best = at;
                }
            }
            current[best] -= total;
            best as u32
        });
        Self { round: round.collect() }
    }

    /// The next endpoint in the round that `fits`, of `endpoints` in all; none if none does. Looks
    /// no further than one round, and passes each endpoint over a bounded number of times.
    pub fn next(
        &self,
        cursor: &AtomicUsize,
        endpoints: usize,
        fits: impl Fn(&usize) -> bool,
    ) -> Option<usize> {
        if self.round.is_empty() {
            return None;
        }
        // Reduced before anything is added: where the cursor wraps, the round must not jump.
        let length = self.round.len();
        let start = cursor.fetch_add(1, Ordering::Relaxed) % length;
        let near = length.min(endpoints.saturating_mul(4).max(16));
        let turn = |step: usize| self.round[(start + step) % length] as usize;
        (0..near).map(turn).find(&fits).or_else(|| {
            // A long round in which heavy endpoints do not fit: whoever does, in turn.
            let others = (0..endpoints).map(|step| (start + step) % endpoints);
            others.into_iter().find(|at| fits(at) && self.round.contains(&(*at as u32)))
        })
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_round_gives_each_its_weight(weights in proptest::collection::vec(0u16..50, 1..12)) {
            let turns = RoundRobin::new(&weights);
            let divisor = weights.iter().map(|w| usize::from(*w)).fold(0, gcd).max(1);
            for (at, weight) in weights.iter().enumerate() {
                let share = turns.round.iter().filter(|turn| **turn as usize == at).count();
                prop_assert_eq!(share, usize::from(*weight) / divisor);
            }
        }

        #[test]
        fn what_does_not_fit_is_never_given(weights in proptest::collection::vec(0u16..9, 1..9), out in any::<u16>(), picks in 1usize..40) {
            let turns = RoundRobin::new(&weights);
            let cursor = AtomicUsize::new(usize::MAX - 3);
            let fits = |at: &usize| out >> at & 1 == 0;
            let some = (0..weights.len()).any(|at| weights[at] > 0 && fits(&at));
            for _ in 0..picks {
                let pick = turns.next(&cursor, weights.len(), fits);
                prop_assert_eq!(pick.is_some(), some);
                if let Some(at) = pick {
                    prop_assert!(fits(&at) && weights[at] > 0);
                }
            }
        }
    }

    #[test]
    fn a_round_does_not_jump_where_the_cursor_wraps() {
        let turns = RoundRobin::new(&[0, 2, 4]);
        for start in [usize::MAX - 2, usize::MAX - 1, usize::MAX] {
            let cursor = AtomicUsize::new(start);
            assert_eq!(turns.next(&cursor, 3, |at| *at == 1), Some(1), "{start}");
        }
    }

    #[test]
    fn large_weights_are_scaled() {
        let weights = vec![997; 900];
        assert!(RoundRobin::new(&weights).round.len() <= 900);
        let mut uneven: Vec<u16> = (1..=1000).collect();
        uneven[0] = 1;
        let turns = RoundRobin::new(&uneven);
        assert!(turns.round.len() <= LONGEST_ROUND + 1000);
        assert!(turns.round.contains(&0), "a small weight is not scaled to nothing");
    }
}

//! Weighted draws.

/// How many draws may miss before the rest is gone through in order.
const DRAWS: usize = 8;

/// Draws by weight in constant time: Walker's alias method in Vose's form ("A Linear Algorithm for
/// Generating Random Numbers with a Given Distribution", 1991).
#[derive(Debug)]
pub struct Weighted {
    /// For each place: the odds (of 2^32) that a draw which falls there stays, and where it goes
    /// otherwise.
    columns: Box<[(u32, u32)]>,
    /// Which places have a weight.
    weights: Box<[u16]>,
    any: bool,
}

impl Weighted {
    /// Works out the columns. A place of weight zero is never drawn.
    pub fn new(weights: &[u16]) -> Self {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let any = total > 0;
        let count = weights.len() as u64;
        // Scaled so that the mean is `total`; all in whole numbers, so that nothing is lost.
        let mut scaled: Vec<u64> = weights.iter().map(|weight| u64::from(*weight) * count).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|at| scaled[*at] < total);
        let mut columns: Vec<(u32, u32)> = (0..weights.len()).map(|at| (u32::MAX, at as u32)).collect();
        while let (true, Some(poor), Some(rich)) = (any, small.pop(), large.last().copied()) {
            let odds = (u128::from(scaled[poor]) << 32) / u128::from(total);
            columns[poor] = (u32::try_from(odds).unwrap_or(u32::MAX), rich as u32);
            scaled[rich] -= total - scaled[poor];
            if scaled[rich] < total {
                large.pop();
                small.push(rich);
            }
        }
        Self { columns: columns.into(), weights: weights.into(), any }
    }

    /// True if the place has a weight.
    pub fn has(&self, at: usize) -> bool {
        self.weights.get(at).is_some_and(|weight| *weight > 0)
    }

    /// A place that fits, drawn by weight; none if none does. Where few fit, draws that miss are ended
    /// by going on in order from a place drawn, which no longer follows the weights exactly.
    pub fn draw(&self, random: impl Fn() -> u64, fits: &impl Fn(usize) -> bool) -> Option<usize> {
        if !self.any {
            return None;
        }
        let count = self.columns.len();
        for _ in 0..DRAWS {
            let number = random();
            // The upper half chooses the column, the lower half whether to stay there.
            let column = (((number >> 32) * count as u64) >> 32) as usize;
            let (odds, other) = self.columns[column];
            let at = if (number as u32) < odds || odds == u32::MAX { column } else { other as usize };
            if fits(at) {
                return Some(at);
            }
        }
        let start = (random() % count as u64) as usize;
        (start..count).chain(0..start).find(|at| self.has(*at) && fits(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    /// All 64 bits evenly, in a fixed order (Weyl's sequence, mixed).
    fn counter() -> impl Fn() -> u64 {
        let state = Cell::new(0_u64);
        move || {
            state.set(state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
            super::super::ring::mix(state.get())
        }
    }

    proptest! {
        #[test]
        fn shares_follow_the_weights(weights in proptest::collection::vec(0u16..20, 1..20)) {
            let weighted = Weighted::new(&weights);
            let random = counter();
            let total: u32 = weights.iter().map(|w| u32::from(*w)).sum();
            const DRAWN: u32 = 20_000;
            let mut counts = vec![0_u32; weights.len()];
            for _ in 0..DRAWN {
                match weighted.draw(&random, &|_| true) {
                    Some(at) => counts[at] += 1,
                    None => prop_assert_eq!(total, 0),
                }
            }
            for (count, weight) in counts.iter().zip(&weights).filter(|_| total > 0) {
                let expected = f64::from(DRAWN) * f64::from(*weight) / f64::from(total);
                let off = (f64::from(*count) - expected).abs();
                // Six standard deviations.
                prop_assert!(off <= 6.0 * expected.sqrt() + f64::from(u8::from(*weight > 0)), "{count} for {expected}");
            }
        }

        #[test]
        fn what_fits_is_found(weights in proptest::collection::vec(0u16..3, 1..40), fit in any::<u64>()) {
            let weighted = Weighted::new(&weights);
            let fits = |at: usize| fit >> at & 1 == 1;
            let some = (0..weights.len()).any(|at| weights[at] > 0 && fits(at));
            let drawn = weighted.draw(counter(), &fits);
            prop_assert_eq!(drawn.is_some(), some);
            prop_assert!(drawn.is_none_or(|at| fits(at) && weights[at] > 0));
        }
    }
}

//! Consistent hashing.

/// Points of an endpoint for each unit of weight: the share of each of ten alike is within some
/// percent of a tenth.
const POINTS: usize = 160;
/// The most points of a ring, 8 MiB. Where weights would want more, every endpoint gets fewer.
const MOST_POINTS: usize = 1 << 20;

/// A ring of points (Karger and others, "Consistent Hashing and Random Trees", 1997, in the form of
/// ketama). Of the ways to hash consistently it is the one where nothing moves but what must: a value
/// changes its endpoint only if that one goes, or to one that comes. Maglev's tables move some values
/// between endpoints that stay, and rendezvous hashing looks at all endpoints for each request.
#[derive(Debug)]
pub struct Ring {
    /// Ascending.
    hashes: Box<[u32]>,
    /// The endpoint of each point.
    owners: Box<[u32]>,
    /// Where the points begin whose upper bits are this.
    starts: Box<[u32]>,
    shift: u32,
}

impl Ring {
    /// Works out the points of endpoints, given by what tells them apart and their weights.
    pub fn new<'a>(endpoints: impl Iterator<Item = (&'a str, u16)> + Clone) -> Self {
        let divisor = endpoints.clone().map(|(_, weight)| usize::from(weight)).fold(0, gcd).max(1);
        let units: usize = endpoints.clone().map(|(_, weight)| usize::from(weight) / divisor).sum();
        // A smaller number of points is the beginning of a larger one: what stays does not move.
        let each = |weight: u16| -> usize {
            let wanted = usize::from(weight) / divisor * POINTS;
            match units * POINTS > MOST_POINTS {
                true => (wanted * MOST_POINTS / (units * POINTS)).max(usize::from(weight.min(1))),
                false => wanted,
            }
        };
        let mut points: Vec<(u32, &str, u32)> = Vec::new();
        for (at, (label, weight)) in endpoints.enumerate() {
            let base = stable_hash(label.as_bytes());
            let point = |number: usize| (mix(base.wrapping_add(number as u64)) >> 32) as u32;
            points.extend((0..each(weight)).map(|number| (point(number), label, at as u32)));
        }
        // By label where two points fall together, so that the order of endpoints decides nothing.
        points.sort_unstable();
        let bits = points.len().max(2).ilog2();
        let shift = 32 - bits;
        let starts = (0..=1_u64 << bits)
            .map(|top| points.partition_point(|(hash, _, _)| u64::from(*hash) < top << shift) as u32);
        Self {
            starts: starts.collect(),
            hashes: points.iter().map(|(hash, _, _)| *hash).collect(),
            owners: points.iter().map(|(_, _, owner)| *owner).collect(),
            shift,
        }
    }

    /// The endpoint of the first point from `hash` on that fits; none if none does. What one that
    /// does not fit would have got is spread over all others.
    pub fn find(&self, hash: u64, fits: &impl Fn(usize) -> bool) -> Option<usize> {
        let hash = (hash >> 32) as u32;
        let top = (hash >> self.shift) as usize;
        let (from, to) = (self.starts[top] as usize, self.starts[top + 1] as usize);
        let first = from + self.hashes[from..to].partition_point(|point| *point < hash);
        let (before, after) = self.owners.split_at(first);
        let mut last = None;
        after.iter().chain(before).map(|owner| *owner as usize).find(|owner| {
            // Points of one endpoint often stand together; it is asked once.
            let asked = last.replace(*owner) == Some(*owner);
            !asked && fits(*owner)
        })
    }
}

/// FNV-1a (Fowler, Noll, Vo; RFC 9923), 64 bits, mixed: the same on every machine and in every
/// version, so that every gateway sends a value to the same endpoint, also after a restart.
pub fn stable_hash(value: &[u8]) -> u64 {
    let hash = value
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    mix(hash)
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
/// Generators", 2014): FNV's upper bits alone are poor for short values.
pub fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(numbers: &[u16]) -> Vec<String> {
        numbers.iter().map(|number| format!("192.0.2.1:{number}")).collect()
    }

    fn ring(labels: &[String], weight: impl Fn(usize) -> u16) -> Ring {
        let pairs: Vec<(&str, u16)> =
            labels.iter().enumerate().map(|(at, label)| (label.as_str(), weight(at))).collect();
        Ring::new(pairs.iter().copied())
    }

    fn value(number: u32) -> u64 {
        stable_hash(&number.to_le_bytes())
    }

    proptest! {
        #[test]
        fn only_what_belonged_to_the_one_that_goes_moves(
            numbers in proptest::collection::btree_set(1u16..2000, 2..30),
            gone in any::<prop::sample::Index>(),
        ) {
            let before: Vec<String> = labels(&numbers.into_iter().collect::<Vec<_>>());
            let gone = gone.index(before.len());
            // The others in another order: it decides nothing.
            let mut after = before.clone();
            let lost = after.remove(gone);
            after.reverse();
            let (old, new) = (ring(&before, |_| 1), ring(&after, |_| 1));
            for number in 0..2000 {
                let old = &before[old.find(value(number), &|_| true).unwrap()];
                let new = &after[new.find(value(number), &|_| true).unwrap()];
                prop_assert!(old == new || *old == lost, "{number} moves from {old} to {new}");
            }
        }

        #[test]
        fn a_place_that_does_not_fit_moves_only_its_own(out in any::<u16>(), count in 1usize..16) {
            let labels = labels(&(1..=count as u16).collect::<Vec<_>>());
            let ring = ring(&labels, |_| 1);
            let fits = |at: usize| out >> at & 1 == 0;
            for number in 0..500 {
                let all = ring.find(value(number), &|_| true).unwrap();
                let some = ring.find(value(number), &fits);
                prop_assert_eq!(some.is_some(), (0..count).any(fits));
                prop_assert!(some.is_none_or(|at| fits(at) && (at == all || !fits(all))));
            }
        }
    }

    #[test]
    fn shares_are_near_the_weights() {
        let labels = labels(&(1..=10).collect::<Vec<_>>());
        let ring = ring(&labels, |at| if at == 0 { 3 } else { 1 });
        let mut counts = [0_u32; 10];
        for number in 0..120_000 {
            counts[ring.find(value(number), &|_| true).unwrap()] += 1;
        }
        assert!((25_000..35_000).contains(&counts[0]), "{counts:?}");
        assert!(counts[1..].iter().all(|count| (7_500..12_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn no_weight_no_point_and_large_weights_have_an_end() {
        let labels = labels(&(1..=1000).collect::<Vec<_>>());
        let even = ring(&labels, |_| 0);
        assert_eq!(even.find(value(1), &|_| true), None);
        let uneven = ring(&labels, |at| if at % 2 == 0 { 999 } else { 1000 });
        assert!(uneven.hashes.len() <= MOST_POINTS);
        let owners: std::collections::HashSet<u32> = uneven.owners.iter().copied().collect();
        assert_eq!(owners.len(), 1000);
    }

    #[test]
    fn values_go_where_they_went_in_every_version() {
        let ring = ring(&labels(&[1, 2, 3, 4]), |_| 1);
        let places: Vec<usize> = ["alice", "bob", "carol", "dave"]
            .iter()
            .filter_map(|name| ring.find(stable_hash(name.as_bytes()), &|_| true))
            .collect();
        assert_eq!(stable_hash(b"alice"), 0xc5d1556d66774a5c);
        assert_eq!(places, [2, 3, 0, 1]);
    }
}

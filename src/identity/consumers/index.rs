use crate::values::Sha256;

/// Digests with what they stand for: sorted, with the place where those of each prefix begin. Digests
/// spread evenly, so a look-up passes by a handful whatever their number, and each costs its 32 bytes
/// and six more.
#[derive(Debug, Default)]
pub(super) struct Index<V> {
    entries: Box<[(Sha256, V)]>,
    /// `starts[p]..starts[p + 1]` are the entries whose digests begin with the bits of `p`.
    starts: Box<[u32]>,
    /// How many bits of a digest are its prefix.
    bits: u32,
}

/// About how many entries share a prefix.
const TOGETHER: usize = 4;

impl<V: Copy> Index<V> {
    /// Sorts the entries. Of a digest that is there several times the first one counts, and the others
    /// are handed to `twice` with it.
    pub(super) fn new(mut entries: Vec<(Sha256, V)>, mut twice: impl FnMut(V, V)) -> Self {
        // Stable: the first of the same stays first.
        entries.sort_by_key(|(a, _)| *a);
        entries.dedup_by(|(later, other), (first, value)| {
            let same = later == first;
            if same {
                twice(*value, *other);
            }
            same
        });
        let bits = (entries.len() / TOGETHER).max(1).ilog2();
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for (at, (digest, _)) in entries.iter().enumerate() {
            // Fewer than 2^32 entries: the builder counts consumers in 32 bits.
            starts.resize(prefix(digest, bits) + 1, at as u32);
        }
        starts.resize((1 << bits) + 1, entries.len() as u32);
        Self { entries: entries.into(), starts: starts.into(), bits }
    }

    /// What stands for this digest. Each comparison takes constant time.
    pub(super) fn get(&self, digest: &Sha256) -> Option<V> {
        let prefix = prefix(digest, self.bits);
        let (start, end) = (self.starts.get(prefix)?, self.starts.get(prefix + 1)?);
        let near = self.entries.get(*start as usize..*end as usize)?;
        near.iter().find(|(known, _)| known == digest).map(|(_, value)| *value)
    }

    /// All digests.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(Sha256, V)> {
        self.entries.iter()
    }

    /// The memory that it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.entries) + size_of_val(&*self.starts)
    }
}

/// The first `bits` bits of a digest, 32 at most.
fn prefix(digest: &Sha256, bits: u32) -> usize {
    let [a, b, c, d, ..] = *digest.bytes();
    let first = u64::from(u32::from_be_bytes([a, b, c, d]));
    (first >> (32 - bits)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_of_two_counts() {
        let mut twice = Vec::new();
        let (a, b) = (Sha256::of(b"a"), Sha256::of(b"b"));
        let index =
            Index::new(vec![(a, 1), (b, 2), (a, 3), (a, 4)], |first, other| twice.push((first, other)));
        assert_eq!((index.get(&a), index.get(&b), index.get(&Sha256::of(b"c"))), (Some(1), Some(2), None));
        assert_eq!(twice, [(1, 3), (1, 4)]);
    }

    #[test]
    fn nothing_is_in_an_empty_one() {
        assert_eq!(Index::<u32>::default().get(&Sha256::of(b"")), None);
        assert_eq!(Index::<u32>::new(Vec::new(), |_, _| {}).get(&Sha256::of(b"")), None);
    }

    proptest! {
        #[test]
        fn it_answers_as_a_map_does(
            known in proptest::collection::hash_map(any::<[u8; 32]>(), any::<u32>(), 0..300),
            others in proptest::collection::vec(any::<[u8; 32]>(), 0..20),
            crowded in proptest::collection::hash_map(any::<u8>(), any::<u32>(), 0..60),
        ) {
            // Some that begin alike, as no digests of keys do.
            let alike = |last: &u8| { let mut digest = [7; 32]; digest[31] = *last; digest };
            let mut map = known;
            map.extend(crowded.iter().map(|(last, value)| (alike(last), *value)));
            let index = Index::new(map.iter().map(|(k, v)| (Sha256::from(*k), *v)).collect(), |_, _| {});
            for digest in map.keys().chain(&others).copied().chain([alike(&1), alike(&255), [0; 32], [255; 32]]) {
                prop_assert_eq!(index.get(&Sha256::from(digest)), map.get(&digest).copied());
            }
        }
    }
}

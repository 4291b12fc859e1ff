//! The binary's allocator: mimalloc, asked for what nearly all of Rust's types need, and before it what
//! a worker has just given back.
//!
//! The `mimalloc` crate asks for every block by its alignment, a road that mimalloc leaves for its
//! slow one above 1 KiB and for anything wider than 16 bytes. Most blocks need no more than `malloc`
//! gives anyway, and the few that do (channels that keep to their own cache lines, one or two a
//! request) find one in a size class that is aligned by itself.
//!
//! mimalloc goes through all blocks of a page before it gives one out again, so that the ninety blocks of
//! a request come from ninety places that no cache holds. A worker keeps the blocks that it was given
//! back last, by size, and gives out the last one first ([`keep_blocks`]). Whoever frees knows the size
//! (mimalloc has to look it up), so this is also the shorter way.

#![expect(unsafe_code, reason = "an allocator is unsafe by its trait; each call says why it is right")]

use libmimalloc_sys as mi;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ptr;

/// What `mi_malloc` promises for blocks of at least this size (`MI_MAX_ALIGN_SIZE`).
const NATURAL: usize = 16;

/// Sizes up to this one are rounded up to a multiple of [`NATURAL`], larger ones to one of four steps
/// between two powers of two: mimalloc's own classes, so that nothing is lost by it.
const FINE: usize = 1024;
/// The classes of sizes up to [`FINE`]; the one of size 0 is never asked for.
const FINE_CLASSES: usize = FINE / NATURAL + 1;
/// The largest size that is kept: what a connection reads at once.
const LARGEST: usize = 64 << 10;
const CLASSES: usize = FINE_CLASSES + 4 * (LARGEST.ilog2() - FINE.ilog2()) as usize;

/// The most bytes of one class that a worker keeps, if they make between two blocks and [`MOST`]. All
/// classes together are then less than 2 MiB.
const BYTES: usize = 32 << 10;
const MOST: usize = 32;

/// mimalloc by its shortest roads.
pub struct Allocator;

/// A block that nobody has: its first bytes lead to the next one.
struct Free {
    next: *mut Free,
}

/// The blocks of one class.
struct Kept {
    first: Cell<*mut Free>,
    /// How many more may be kept. None on a thread that has not asked to keep any.
    room: Cell<usize>,
}

thread_local! {
    /// Nothing that has to be dropped: an allocator may not ask for that. What a thread keeps at its end
    /// is lost, so only those keep anything that end with the process.
    static KEPT: [Kept; CLASSES] =
        const { [const { Kept { first: Cell::new(ptr::null_mut()), room: Cell::new(0) } }; CLASSES] };
}

/// Has this thread keep blocks that are given back, some 2 MiB at most, for the next that asks. For threads
/// that serve requests until the process ends: what they keep never goes back.
pub fn keep_blocks() {
    KEPT.with(|kept| {
        // Where blocks are kept, a class has room or blocks.
        if kept.last().is_none_or(|kept| kept.room.get() > 0 || !kept.first.get().is_null()) {
            return;
        }
        for (class, kept) in kept.iter().enumerate().skip(1) {
            kept.room.set((BYTES / size_of_class(class)).clamp(2, MOST));
        }
    });
}

/// The class of a size; [`CLASSES`] or more for those that are not kept.
#[inline]
const fn class_of(size: usize) -> usize {
    if size <= FINE {
        return size.div_ceil(NATURAL);
    }
    let last = size - 1;
    let power = last.ilog2();
    FINE_CLASSES + 4 * (power - FINE.ilog2()) as usize + ((last >> (power - 2)) & 3)
}

/// How large the blocks of a class are, in bytes.
#[inline]
const fn size_of_class(class: usize) -> usize {
    if class < FINE_CLASSES {
        return class * NATURAL;
    }
    let step = class - FINE_CLASSES;
    (5 + step % 4) << (FINE.ilog2() as usize + step / 4 - 2)
}

/// The class that blocks of this layout have; none if they are too large or aligned too widely.
#[inline]
const fn class(layout: Layout) -> Option<usize> {
    let class = class_of(layout.size());
    if layout.align() <= NATURAL && class < CLASSES { Some(class) } else { None }
}

/// A block that was given back, if there is one of this class.
#[inline]
fn take(class: usize) -> Option<*mut u8> {
    KEPT.with(|kept| {
        let kept = kept.get(class)?;
        let block = kept.first.get();
        if block.is_null() {
            return None;
        }
        // SAFETY: what is in the list was put there by `keep`, which wrote its `next`, and nobody has it.
        kept.first.set(unsafe { (*block).next });
        kept.room.set(kept.room.get() + 1);
        Some(block.cast())
    })
}

/// Keeps a block that nobody has any more. `false` if there is no room for it.
///
/// # Safety
/// It is of this class, from mimalloc, and nobody has it.
#[inline]
unsafe fn keep(class: usize, block: *mut u8) -> bool {
    KEPT.with(|kept| {
        let Some(kept) = kept.get(class) else { return false };
        let room = kept.room.get();
        if room == 0 {
            return false;
        }
        let block = block.cast::<Free>();
        // SAFETY: the smallest block has room for a pointer and its alignment.
        unsafe { block.write(Free { next: kept.first.get() }) };
        kept.first.set(block);
        kept.room.set(room - 1);
        true
    })
}

/// True where `mi_malloc` alone aligns enough: up to 16 bytes, for blocks that are as large as they
/// are aligned. The standard library asks the system's `malloc` by the same rule.
const fn is_natural(size: usize, layout: Layout) -> bool {
    layout.align() <= NATURAL && layout.align() <= size
}

// SAFETY: every block comes from mimalloc and goes back to it, with the size and the alignment that
// its layout asks for. A block of a class has the whole size of the class, so that any layout of that class may
// have it next; which class that is, the layout alone decides.
unsafe impl GlobalAlloc for Allocator {
    // Not inline, nor is what gives back: they are called from everywhere, and benches/check.py counts the calls.
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some(class) = class(layout) {
            return take(class).unwrap_or_else(|| {
                // SAFETY: the size of a class that a layout has is not zero.
                unsafe { mi::mi_malloc(size_of_class(class)).cast() }
            });
        }
        // SAFETY: the caller gives a layout whose size is not zero.
        unsafe {
            if is_natural(layout.size(), layout) {
                return mi::mi_malloc(layout.size()).cast();
            }
            mi::mi_malloc_aligned(wide(layout), layout.align()).cast()
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // mimalloc knows which of its blocks are zero already.
        let size = class(layout).map_or(layout.size(), size_of_class);
        // SAFETY: as in `alloc`.
        unsafe {
            if is_natural(size, layout) {
                return mi::mi_zalloc(size).cast();
            }
            mi::mi_zalloc_aligned(wide(layout), layout.align()).cast()
        }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from here with this layout, so it is of its class, and mimalloc's.
        unsafe {
            if class(layout).is_none_or(|class| !keep(class, block)) {
                mi::mi_free(block.cast());
            }
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the block came from here with this layout; the new size is not zero, and together with the alignment
        // no more than a layout may have.
        unsafe {
            let new = Layout::from_size_align_unchecked(size, layout.align());
            match (class(layout), class(new)) {
                (Some(old), Some(new)) if old == new => block,
                (Some(_), Some(_)) => self.another(block, layout, new),
                // Of a class from now on, so that it has to have all of it, however little is asked for.
                (None, Some(class)) => mi::mi_realloc(block.cast(), size_of_class(class)).cast(),
                (_, None) if is_natural(size, layout) => mi::mi_realloc(block.cast(), size).cast(),
                (_, None) => mi::mi_realloc_aligned(block.cast(), size, layout.align()).cast(),
            }
        }
    }
}

impl Allocator {
    /// Moves what is in a block to another one.
    ///
    /// # Safety
    /// As of `realloc`.
    unsafe fn another(&self, block: *mut u8, old: Layout, new: Layout) -> *mut u8 {
        // SAFETY: both blocks have at least so many bytes, and a new one is nowhere in an old one. The old one is given
        // back only if there is a new one, as `realloc` promises.
        unsafe {
            let moved = self.alloc(new);
            if !moved.is_null() {
                ptr::copy_nonoverlapping(block, moved, old.size().min(new.size()));
                self.dealloc(block, old);
            }
            moved
        }
    }
}

/// The size to ask for a block that is aligned widely: a power of two, whose size class mimalloc
/// aligns without looking for a place inside a larger block. Large blocks are left as they are: they are no part of a
/// request, and one of them, a connection's task, is there as long as its connection, so that what it is rounded up by
/// is memory of every idle one.
const fn wide(layout: Layout) -> usize {
    if layout.size() <= 1024 { layout.size().next_power_of_two() } else { layout.size() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_class_is_the_smallest_that_holds_a_size() {
        for size in 1..=LARGEST {
            let class = class_of(size);
            assert!(class < CLASSES, "{size}");
            let whole = size_of_class(class);
            assert!(whole >= size && whole.is_multiple_of(NATURAL), "{size} in {whole}");
            assert_eq!(class_of(whole), class, "{size}");
            assert!(class == 1 || size_of_class(class - 1) < size, "{size}");
            // mimalloc's own classes are as far apart.
            assert!(whole - size < NATURAL || whole < size + size / 4, "{size} in {whole}");
        }
        assert_eq!(class_of(LARGEST), CLASSES - 1);
        assert!(class_of(LARGEST + 1) >= CLASSES && class_of(usize::MAX / 2) >= CLASSES);
    }

    #[test]
    fn what_was_given_back_last_is_given_out_first_up_to_a_bound() {
        let layout = Layout::from_size_align(100, 8).unwrap();
        // SAFETY: each block is given back once, with its layout, and not used after.
        let rounds = std::thread::spawn(move || unsafe {
            let blocks =
                |count: usize| (0..count).map(|_| Allocator.alloc(layout) as usize).collect::<Vec<_>>();
            let free = |block: &usize| Allocator.dealloc(*block as *mut u8, layout);
            let kept = || MOST - KEPT.with(|kept| kept[class_of(100)].room.get());
            blocks(3).iter().for_each(free);
            let without = KEPT.with(|kept| kept[class_of(100)].first.get().is_null());
            keep_blocks();
            let first = blocks(MOST + 5);
            first.iter().for_each(free);
            let full = kept();
            // A second word changes nothing.
            keep_blocks();
            let again = blocks(2);
            let left = kept();
            again.iter().for_each(free);
            (without, full, left, first, again)
        });
        let (without, full, left, first, again) = rounds.join().unwrap();
        assert!(without, "a thread that was not told to keeps nothing");
        assert_eq!((full, left), (MOST, MOST - 2));
        assert_eq!(again, [first[MOST - 1], first[MOST - 2]]);
    }

    unsafe extern "C" {
        fn mi_usable_size(block: *const std::ffi::c_void) -> usize;
    }

    /// A block of a class is given to whoever asks for one of it next.
    fn assert_whole(block: *mut u8, layout: Layout) {
        // SAFETY: it is a block of mimalloc's that is held.
        let has = unsafe { mi_usable_size(block.cast()) };
        let class = class(layout).map_or(layout.size(), size_of_class);
        assert!(has >= class, "{layout:?} in {has} of {class}");
    }

    /// Less than its alignment: of a class all the same.
    #[test]
    fn a_large_block_that_shrinks_to_next_to_nothing_has_its_whole_class() {
        for align in [1, 8, 16] {
            let large = Layout::from_size_align(LARGEST + 1, align).unwrap();
            for size in [1, 8, 9, 15, 16, 17, 900, 1025, LARGEST] {
                let small = Layout::from_size_align(size, align).unwrap();
                // SAFETY: each block is held once, and given back with its layout.
                unsafe {
                    let block = Allocator.realloc(Allocator.alloc(large), large, size);
                    assert_whole(block, small);
                    Allocator.dealloc(block, small);
                }
            }
        }
    }

    /// What is done to one of a few blocks: a size for it, an alignment, and whether it is given back first.
    fn step() -> impl Strategy<Value = (usize, usize, u32, bool)> {
        (0_usize..16, prop_oneof![1_usize..300, 900_usize..3000, 1_usize..200_000], 0_u32..9, any::<bool>())
    }

    proptest! {
        /// Each block keeps what was written to it, whatever is done to the others, and is aligned.
        #[test]
        fn blocks_are_their_owners_alone(steps in proptest::collection::vec(step(), 1..200), keeps: bool) {
            let check = move || {
                if keeps {
                    keep_blocks();
                }
                let mut held: [Option<(*mut u8, Layout, u8)>; 16] = [None; 16];
                for (round, (at, size, align, fresh)) in steps.into_iter().enumerate() {
                    let mark = round as u8;
                    // SAFETY: blocks are used within their layouts, and given back once.
                    unsafe {
                        let before = held[at].take();
                        let (block, layout) = match before {
                            Some((block, layout, old)) if !fresh => {
                                let moved = Allocator.realloc(block, layout, size);
                                let left = std::slice::from_raw_parts(moved, size.min(layout.size()));
                                assert!(left.iter().all(|byte| *byte == old), "moved: {layout:?} to {size}");
                                (moved, Layout::from_size_align(size, layout.align()).unwrap())
                            }
                            other => {
                                if let Some((block, layout, old)) = other {
                                    let whole = std::slice::from_raw_parts(block, layout.size());
                                    assert!(whole.iter().all(|byte| *byte == old), "{layout:?}");
                                    Allocator.dealloc(block, layout);
                                }
                                let layout = Layout::from_size_align(size, 1 << align).unwrap();
                                if round % 3 == 0 {
                                    let block = Allocator.alloc_zeroed(layout);
                                    assert!(std::slice::from_raw_parts(block, size).iter().all(|byte| *byte == 0));
                                    (block, layout)
                                } else {
                                    (Allocator.alloc(layout), layout)
                                }
                            }
                        };
                        assert!((block as usize).is_multiple_of(layout.align()), "{layout:?}");
                        assert_whole(block, layout);
                        block.write_bytes(mark, layout.size());
                        held[at] = Some((block, layout, mark));
                    }
                }
                for (block, layout, old) in held.into_iter().flatten() {
                    // SAFETY: as above.
                    unsafe {
                        assert!(std::slice::from_raw_parts(block, layout.size()).iter().all(|byte| *byte == old));
                        Allocator.dealloc(block, layout);
                    }
                }
            };
            prop_assert!(std::thread::spawn(check).join().is_ok());
        }
    }
}

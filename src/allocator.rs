//! The binary's allocator: mimalloc, asked for what nearly all of Rust's types need.
//!
//! The `mimalloc` crate asks for every block by its alignment, a road that mimalloc leaves for its
//! slow one above 1 KiB and for anything wider than 16 bytes. Most blocks need no more than `malloc`
//! gives anyway, and the few that do (channels that keep to their own cache lines, one or two a
//! request) find one in a size class that is aligned by itself.

#![expect(unsafe_code, reason = "an allocator is unsafe by its trait; each call says why it is right")]

use libmimalloc_sys as mi;
use std::alloc::{GlobalAlloc, Layout};

/// What `mi_malloc` promises for blocks of at least this size (`MI_MAX_ALIGN_SIZE`).
const NATURAL: usize = 16;

/// mimalloc by its shortest roads.
pub struct Allocator;

/// True where `mi_malloc` alone aligns enough: up to 16 bytes, for blocks that are as large as they
/// are aligned. The standard library asks the system's `malloc` by the same rule.
const fn is_natural(size: usize, layout: Layout) -> bool {
    layout.align() <= NATURAL && layout.align() <= size
}

// SAFETY: every block comes from mimalloc and goes back to it, with the size and the alignment that
// its layout asks for.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
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
        // SAFETY: as in `alloc`.
        unsafe {
            if is_natural(layout.size(), layout) {
                return mi::mi_zalloc(layout.size()).cast();
            }
            mi::mi_zalloc_aligned(wide(layout), layout.align()).cast()
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the block came from here.
        unsafe { mi::mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the block came from here with this layout; the new size is not zero.
        unsafe {
            if is_natural(size, layout) {
                return mi::mi_realloc(block.cast(), size).cast();
            }
            mi::mi_realloc_aligned(block.cast(), size, layout.align()).cast()
        }
    }
}

/// The size to ask for a block that is aligned widely: a power of two, whose size class mimalloc
/// aligns without looking for a place inside a larger block. Large blocks are left as they are.
const fn wide(layout: Layout) -> usize {
    if layout.size() <= 2048 { layout.size().next_power_of_two() } else { layout.size() }
}

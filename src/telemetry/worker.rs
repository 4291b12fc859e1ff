//! A small number for each thread, by which it finds a value of its own among the shards.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The number of this thread, given at its first call and counting up from 0. Users take it modulo
/// their shards: two threads on one shard are slower, not wrong.
pub(super) fn number() -> usize {
    let number = NUMBER.get();
    if number != usize::MAX {
        return number;
    }
    // A thread's number has to be its own in the whole process, like the thread-local that keeps it.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    NUMBER.set(number);
    number
}

//! Large pages for a table that is read at random: most of what such a read costs is finding the page.

use std::sync::atomic::AtomicU64;

/// A large page, in bytes.
const LARGE: usize = 2 << 20;

/// Lets the kernel put these words into large pages, in its own time, where it may (`madvise` or `always` in
/// `/sys/kernel/mm/transparent_hugepage/enabled`). It takes memory for all of them then, used or not.
pub(super) fn prefer_large(words: &[AtomicU64]) {
    let begin = words.as_ptr().addr();
    let skipped = begin.next_multiple_of(LARGE) - begin;
    let length = size_of_val(words).saturating_sub(skipped) / LARGE * LARGE;
    let Some(rest) = words.get(skipped / size_of::<AtomicU64>()..).filter(|_| length > 0) else { return };
    #[expect(unsafe_code, reason = "the kernel is told by address")]
    // SAFETY: the range is part of the slice, and begins and ends with a page. The advice changes neither what
    // is in it nor who may read and write it, so that it does not matter either who does so meanwhile.
    let answer = unsafe { libc::madvise(rest.as_ptr().cast_mut().cast(), length, libc::MADV_HUGEPAGE) };
    if answer != 0 {
        // A kernel without them: it is slower, and no less right.
        log::debug!("limits stay in small pages: {}", std::io::Error::last_os_error());
    }
}

/// Small writes are collected up to this; a larger one goes out at once, with what was collected.
const CAPACITY: usize = 4096;

/// Bytes that wait to be written. It takes memory only from the first byte on.
#[derive(Debug, Default)]
pub(super) struct WriteBuffer {
    bytes: Vec<u8>,
    written: usize,
}

impl WriteBuffer {
    pub(super) fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// Whether `count` bytes more are few enough to be collected.
    pub(super) fn has_room(&self, count: usize) -> bool {
        self.bytes.len().saturating_add(count) <= CAPACITY
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(CAPACITY);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Drops the first `count` of the pending bytes: they are written.
    pub(super) fn advance(&mut self, count: usize) {
        self.written += count;
        if self.is_empty() {
            self.bytes.clear();
            self.written = 0;
        }
    }

    /// Gives the memory back, if nothing is pending.
    pub(super) fn free(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

/// A listener, numbered for the life of the process: a listener of the same name keeps its number
/// across reloads, so a connection can carry it and any snapshot can be asked about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u16);

/// A route, by its place in the snapshot that it was compiled into. It means nothing in another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u32);

impl ListenerId {
    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl RouteId {
    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

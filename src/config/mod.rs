//! Text to model: the one door is `load`.

pub mod model;

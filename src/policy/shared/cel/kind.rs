//! What is known of a value before there is one.

/// The type of a part of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    List(Box<Kind>),
    /// From names to what is not known.
    Map,
    /// Not known before the request: a claim.
    Dynamic,
}

impl Kind {
    pub(super) fn list(of: Self) -> Self {
        Self::List(Box::new(of))
    }

    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a bool",
            Self::Int => "an int",
            Self::Uint => "a uint",
            Self::Double => "a double",
            Self::Text => "a string",
            Self::List(_) => "a list",
            Self::Map => "a map",
            Self::Dynamic => "of no known type",
        }
    }

    pub(super) const fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    /// True if a value of this type can be equal to one of the other.
    pub(super) fn may_equal(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dynamic, _) | (_, Self::Dynamic) => true,
            (Self::List(one), Self::List(two)) => one.may_equal(two),
            (one, two) => one == two || (one.is_number() && two.is_number()),
        }
    }

    /// True if the two have an order.
    pub(super) fn may_compare(&self, other: &Self) -> bool {
        let ordered =
            |kind: &Self| kind.is_number() || matches!(kind, Self::Text | Self::Bool | Self::Dynamic);
        ordered(self) && ordered(other) && self.may_equal(other)
    }

    /// True if a value of this type may turn out to be one of `wanted`.
    pub(super) fn may_be(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Dynamic, _) | (_, Self::Dynamic) => true,
            (Self::List(one), Self::List(two)) => one.may_be(two),
            (one, two) => one == two,
        }
    }

    /// The type of what may be either.
    pub(super) fn or(self, other: &Self) -> Self {
        if self == *other { self } else { Self::Dynamic }
    }
}

//! What is counted: tokens and bytes, each its own type, so that one is never added to the other.
//!
//! Sums are checked or stop at the end of the range: a figure that a backend invents must not wrap a
//! limit around to zero. Nothing here is a float, and nothing is negative.

use std::fmt;

/// A number of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tokens(u64);

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(u64);

impl Tokens {
    /// No tokens.
    pub const ZERO: Self = Self(0);

    /// So many tokens.
    pub const fn new(tokens: u64) -> Self {
        Self(tokens)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sum, or `None` if it doesn't fit.
    pub fn checked_add(self, more: Self) -> Option<Self> {
        self.0.checked_add(more.0).map(Self)
    }

    /// The sum, or the largest number if it doesn't fit.
    pub const fn saturating_add(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }

    /// What is left when `fewer` are taken off; none if there weren't as many.
    pub const fn saturating_sub(self, fewer: Self) -> Self {
        Self(self.0.saturating_sub(fewer.0))
    }
}

impl Bytes {
    /// No bytes.
    pub const ZERO: Self = Self(0);

    /// So many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sum, or `None` if it doesn't fit.
    pub fn checked_add(self, more: Self) -> Option<Self> {
        self.0.checked_add(more.0).map(Self)
    }

    /// What is left when `fewer` are taken off, or `None` if there weren't as many.
    pub fn checked_sub(self, fewer: Self) -> Option<Self> {
        self.0.checked_sub(fewer.0).map(Self)
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_never_wrap() {
        assert_eq!(Tokens::new(u64::MAX).checked_add(Tokens::new(1)), None);
        assert_eq!(
            Tokens::new(u64::MAX).saturating_add(Tokens::new(1)).get(),
            u64::MAX
        );
        assert_eq!(Tokens::new(1).saturating_sub(Tokens::new(2)), Tokens::ZERO);
        assert_eq!(Bytes::new(1).checked_sub(Bytes::new(2)), None);
        assert_eq!(Bytes::new(u64::MAX).checked_add(Bytes::new(1)), None);
    }
}

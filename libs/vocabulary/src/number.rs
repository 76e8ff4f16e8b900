//! Numbers that count different things, each a type of its own.

use std::fmt;

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident($inner:ty))+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number after this one. Running out is a bug of the caller: every use has a bound far below.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, out)
            }
        }
    )+};
}

numbers! {
    /// A 4 KiB block's place in the volume's address space.
    BlockIndex(u64)
    /// A row of the period table: one salt, one subkey. 0 is no period.
    PeriodNumber(u32)
    /// A segment of one store, counted up and never used twice. 0 is no segment.
    SegmentNumber(u32)
    /// A record's place in the volume's total order. The first record is 1; 0 is "before any record".
    Seq(u64)
}

//! Ids: sixteen bytes each, drawn at random by whoever gives birth to the thing, compared and printed, nothing else.

use std::fmt;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                for (place, byte) in self.0.iter().enumerate() {
                    if matches!(place, 4 | 6 | 8 | 10) {
                        out.write_str("-")?;
                    }
                    write!(out, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, concat!(stringify!($name), "({})"), self)
            }
        }
    )+};
}

ids! {
    /// One life of a segment file. A recycled file gets another, which voids what it held before.
    InstanceId
    /// Names a volume key without saying anything about it.
    KeyId
    /// One opening of a volume by one process. A promise is given to a session, never to a node.
    SessionId
    /// A volume, for ever: never reused, also not after deletion.
    VolumeId
}

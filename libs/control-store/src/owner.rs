//! Whose store it is. A store that was copied to another node, or given to another controller, is refused.

use std::fmt;

/// What its owner does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// A node plugin.
    Node = 1,
    /// A controller.
    Controller = 2,
}

/// One owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// What it does.
    pub role: Role,
    /// The installation.
    pub installation: [u8; 16],
    /// Its name there.
    pub name: String,
}

impl Owner {
    pub(crate) fn encode(&self) -> Vec<u8> {
        [&[self.role as u8][..], &self.installation, self.name.as_bytes()].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (role, rest) = bytes.split_first()?;
        let role = [Role::Node, Role::Controller].into_iter().find(|one| *one as u8 == *role)?;
        let (installation, name) = rest.split_first_chunk::<16>()?;
        Some(Self { role, installation: *installation, name: std::str::from_utf8(name).ok()?.to_owned() })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Node => "node",
            Role::Controller => "controller",
        };
        write!(out, "{role} {} of installation ", self.name)?;
        self.installation.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

//! An open volume as frontends see it.

use holdfast_frontend::target::{Target, TargetError};
use holdfast_session::SessionError;

use crate::OpenVolume;

/// In the words of a block device. What is behind an I/O error is kept by the session, for whoever explains.
const fn in_short(error: &SessionError) -> TargetError {
    match error {
        SessionError::NoSpace { .. } => TargetError::NoSpace,
        SessionError::NotAligned { .. } | SessionError::OutOfRange { .. } => TargetError::Invalid,
        _ => TargetError::Io,
    }
}

impl OpenVolume {
    fn answer(&self, done: Result<(), SessionError>) -> Result<(), TargetError> {
        done.map_err(|error| {
            let short = in_short(&error);
            self.upkeep.note(error);
            short
        })
    }
}

impl Target for OpenVolume {
    fn size(&self) -> u64 {
        self.session.size()
    }

    fn read_only(&self) -> bool {
        false
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), TargetError> {
        self.answer(self.session.read(offset, out))
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), TargetError> {
        self.answer(self.session.write(offset, bytes))
    }

    fn flush(&self) -> Result<(), TargetError> {
        self.answer(self.session.flush())
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), TargetError> {
        self.answer(self.session.discard(offset, length))
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), TargetError> {
        self.answer(self.session.write_zeroes(offset, length))
    }
}

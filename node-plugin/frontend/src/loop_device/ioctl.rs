//! The loop driver's ioctls: the only place of this folder where the kernel is handed memory by address.
//!
//! Structures are bytes with places, laid out as `linux/loop.h` says on every 64-bit machine, so that nothing is read
//! that was not written.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::ioctl::{Getter, IntegerSetter, Ioctl, IoctlOutput, NoArg, Opcode, Setter, ioctl};

const LOOP_CLR_FD: Opcode = 0x4C01;
const LOOP_GET_STATUS64: Opcode = 0x4C05;
const LOOP_SET_CAPACITY: Opcode = 0x4C07;
const LOOP_SET_DIRECT_IO: Opcode = 0x4C08;
const LOOP_CONFIGURE: Opcode = 0x4C0A;
const LOOP_CTL_GET_FREE: Opcode = 0x4C82;

/// Flags of a loop device.
pub(super) mod flags {
    pub const READ_ONLY: u32 = 1;
    pub const AUTOCLEAR: u32 = 4;
    pub const DIRECT_IO: u32 = 16;
}

const INFO_BYTES: usize = 232;
const CONFIG_BYTES: usize = 304;
/// Where `lo_flags` lies in `struct loop_info64`.
const FLAGS_AT: usize = 52;
/// Where `struct loop_info64` lies in `struct loop_config`.
const INFO_AT: usize = 8;

/// Memory of a structure, aligned as the structure is.
#[repr(C, align(8))]
struct Bytes<const N: usize>([u8; N]);

/// What `LOOP_GET_STATUS64` says that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Info {
    /// The backing file's device, in the kernel's own encoding.
    pub device: u64,
    pub inode: u64,
    pub flags: u32,
}

/// A loop device that is free, made if need be.
pub(super) fn get_free(control: impl AsFd) -> Result<u32, Errno> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument and returns a number; it touches no memory of ours.
    #[allow(unsafe_code)]
    let number = unsafe { ioctl(control, GetFree) }?;
    u32::try_from(number).map_err(|_| Errno::RANGE)
}

/// Gives the device its backing file, in one step.
pub(super) fn configure(device: impl AsFd, file: BorrowedFd<'_>, block_size: u32, flags: u32) -> Result<(), Errno> {
    let mut config = Bytes([0_u8; CONFIG_BYTES]);
    // A descriptor that is open is not negative.
    config.0[..4].copy_from_slice(&file.as_raw_fd().to_ne_bytes());
    config.0[4..8].copy_from_slice(&block_size.to_ne_bytes());
    config.0[INFO_AT + FLAGS_AT..INFO_AT + FLAGS_AT + 4].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: the argument is a `struct loop_config`, of its size and alignment; the kernel only reads it.
    #[allow(unsafe_code)]
    unsafe {
        ioctl(device, Setter::<LOOP_CONFIGURE, Bytes<CONFIG_BYTES>>::new(config))
    }
}

/// What the device says of itself; `NXIO` if it has no backing file.
pub(super) fn status(device: impl AsFd) -> Result<Info, Errno> {
    // SAFETY: the kernel fills a whole `struct loop_info64`, which has this size and alignment.
    #[allow(unsafe_code)]
    let info = unsafe { ioctl(device, Getter::<LOOP_GET_STATUS64, Bytes<INFO_BYTES>>::new()) }?;
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&info.0[at..at + 8]);
        u64::from_ne_bytes(word)
    };
    // The flags are the upper half of their word on the machines that we build for.
    Ok(Info { device: word(0), inode: word(8), flags: (word(FLAGS_AT - 4) >> 32) as u32 })
}

/// Has the device read and write past the page cache.
pub(super) fn set_direct_io(device: impl AsFd) -> Result<(), Errno> {
    // SAFETY: the argument is a number, not an address.
    #[allow(unsafe_code)]
    unsafe {
        ioctl(device, IntegerSetter::<LOOP_SET_DIRECT_IO>::new_usize(1))
    }
}

/// Has the device look at its file's size again.
pub(super) fn set_capacity(device: impl AsFd) -> Result<(), Errno> {
    // SAFETY: no argument.
    #[allow(unsafe_code)]
    unsafe {
        ioctl(device, NoArg::<LOOP_SET_CAPACITY>::new())
    }
}

/// Takes the backing file away, as soon as nobody has the device open.
pub(super) fn clear(device: impl AsFd) -> Result<(), Errno> {
    // SAFETY: no argument.
    #[allow(unsafe_code)]
    unsafe {
        ioctl(device, NoArg::<LOOP_CLR_FD>::new())
    }
}

/// The only one that answers by what it returns.
struct GetFree;

// SAFETY: the operation has no argument and changes no memory; its result is the returned number alone.
#[allow(unsafe_code)]
unsafe impl Ioctl for GetFree {
    type Output = i32;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut std::ffi::c_void) -> rustix::io::Result<i32> {
        Ok(out)
    }
}

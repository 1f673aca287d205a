//! The register window as QEMU's memory core sees it.
//!
//! QEMU would cut an odd access into pieces that the callbacks like. A card does not: it sees what is on the
//! bus. So every size and alignment is let through, and the model says which it answers.

use std::ffi::c_void;
use std::ptr::null;

use squall_registers::WINDOW_LEN;

use crate::abi::{ImplementedAccesses, LITTLE_ENDIAN, MemoryRegionOps, Object, Room, ValidAccesses};
use crate::device::Device;
use crate::symbols::qemu;

/// What a bus reads where nobody answers.
const FLOATING: u64 = u64::MAX;

static OPS: MemoryRegionOps = MemoryRegionOps {
    read,
    write,
    read_with_attrs: null(),
    write_with_attrs: null(),
    endianness: LITTLE_ENDIAN,
    valid: ValidAccesses { min: 1, max: 8, unaligned: true, accepts: null() },
    implemented: ImplementedAccesses { min: 1, max: 8, unaligned: true },
};

/// How much room the register window has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// Exactly what it needs, as I/O ports are scarce.
    Ports,
    /// A page of memory, of which nobody answers but the beginning: the least that a processor can map.
    Page,
}

impl Window {
    fn len(self) -> u64 {
        match self {
            Self::Ports => u64::from(WINDOW_LEN),
            Self::Page => 4096,
        }
    }
}

/// A region over `device`'s registers, owned by `owner`. It is QEMU's from now on, for as long as `owner` is;
/// `device` keeps the room.
///
/// # Safety
/// `owner` is the object that `device` stands for, and the device outlives it.
pub(crate) unsafe fn register_window(owner: *mut Object, device: &Device, window: Window) -> *mut Room {
    let room = device.keep(Room::zeroed());
    let opaque = std::ptr::from_ref(device).cast_mut().cast();
    let name = c"squall-registers".as_ptr();
    // SAFETY: by the caller's word; the room is large and aligned enough for a MemoryRegion; the callbacks
    // get the device.
    unsafe { (qemu().memory_region_init_io)(room, owner, &raw const OPS, opaque, name, window.len()) };
    room
}

unsafe extern "C" fn read(opaque: *mut c_void, offset: u64, size: u32) -> u64 {
    // SAFETY: the device given to `register_window`, alive as long as the region.
    let device = unsafe { &*opaque.cast::<Device>() };
    device.read(offset, size).map_or(FLOATING, u64::from)
}

unsafe extern "C" fn write(opaque: *mut c_void, offset: u64, value: u64, size: u32) {
    // SAFETY: the device given to `register_window`, alive as long as the region.
    let device = unsafe { &*opaque.cast::<Device>() };
    device.write(offset, size, value);
}

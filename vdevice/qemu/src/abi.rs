//! The layouts of QEMU's that this library relies on. There are three structures; everything else is a
//! pointer.
//!
//! They were the same in every QEMU of the tested range. The asserts below pin our side: a change here is a
//! change of what QEMU will read.

use std::ffi::{c_char, c_int, c_void};
use std::mem::{offset_of, size_of};

/// Declares types of QEMU's that are only ever pointed to.
macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])*
        #[repr(C)]
        pub(crate) struct $name {
            _opaque: [u8; 0],
        })*
    };
}

opaque! {
    /// An instance of a type of QEMU's object model; every device is one.
    Object;
    /// A class of QEMU's object model.
    ObjectClass;
    /// What a QMP command goes wrong with.
    Error;
    /// Walks a value on its way in or out of a property.
    Visitor;
    /// A virtual processor.
    CpuState;
    /// One wire of an interrupt controller.
    IrqState;
    /// A registered handler of starts and stops.
    StateEntry;
    /// A registered type.
    TypeImpl;
    /// A translation block, as plugins see it.
    PluginTb;
    /// An instruction, as plugins see it.
    PluginInsn;
}

/// Room for a structure of QEMU's whose size differs between versions. The ones we need, `MemoryRegion` and
/// `QEMUTimer`, have never been larger than a twelfth of it.
#[repr(C, align(64))]
pub(crate) struct Room([u8; 4096]);

impl Room {
    /// Room filled with zeroes.
    pub(crate) fn zeroed() -> Box<Self> {
        Box::new(Self([0; 4096]))
    }
}

/// `TypeInfo`: what a type is made of.
#[repr(C)]
pub(crate) struct TypeInfo {
    pub(crate) name: *const c_char,
    pub(crate) parent: *const c_char,
    /// 0 for the parent's.
    pub(crate) instance_size: usize,
    pub(crate) instance_align: usize,
    pub(crate) instance_init: Option<unsafe extern "C" fn(*mut Object)>,
    pub(crate) instance_post_init: Option<unsafe extern "C" fn(*mut Object)>,
    pub(crate) instance_finalize: Option<unsafe extern "C" fn(*mut Object)>,
    pub(crate) is_abstract: bool,
    /// 0 for the parent's.
    pub(crate) class_size: usize,
    pub(crate) class_init: Option<unsafe extern "C" fn(*mut ObjectClass, *mut c_void)>,
    pub(crate) class_base_init: Option<unsafe extern "C" fn(*mut ObjectClass, *mut c_void)>,
    pub(crate) class_data: *const c_void,
    pub(crate) interfaces: *const c_void,
}

const _: () = {
    assert!(size_of::<TypeInfo>() == 104);
    assert!(offset_of!(TypeInfo, instance_size) == 16);
    assert!(offset_of!(TypeInfo, instance_init) == 32);
    assert!(offset_of!(TypeInfo, is_abstract) == 56);
    assert!(offset_of!(TypeInfo, class_size) == 64);
    assert!(offset_of!(TypeInfo, class_init) == 72);
    assert!(offset_of!(TypeInfo, interfaces) == 96);
};

/// Which accesses reach the callbacks of [`MemoryRegionOps`] at all.
#[repr(C)]
pub(crate) struct ValidAccesses {
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) unaligned: bool,
    pub(crate) accepts: *const c_void,
}

/// Which accesses the callbacks of [`MemoryRegionOps`] want; others are cut up or widened by QEMU.
#[repr(C)]
pub(crate) struct ImplementedAccesses {
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) unaligned: bool,
}

/// `MemoryRegionOps`: how a region of addresses or ports is read and written.
#[repr(C)]
pub(crate) struct MemoryRegionOps {
    pub(crate) read: unsafe extern "C" fn(*mut c_void, u64, u32) -> u64,
    pub(crate) write: unsafe extern "C" fn(*mut c_void, u64, u64, u32),
    pub(crate) read_with_attrs: *const c_void,
    pub(crate) write_with_attrs: *const c_void,
    pub(crate) endianness: c_int,
    pub(crate) valid: ValidAccesses,
    pub(crate) implemented: ImplementedAccesses,
}

/// `DEVICE_LITTLE_ENDIAN`.
pub(crate) const LITTLE_ENDIAN: c_int = 2;

const _: () = {
    assert!(size_of::<MemoryRegionOps>() == 80);
    assert!(offset_of!(MemoryRegionOps, endianness) == 32);
    assert!(offset_of!(MemoryRegionOps, valid) == 40);
    assert!(offset_of!(ValidAccesses, unaligned) == 8);
    assert!(offset_of!(ValidAccesses, accepts) == 16);
    assert!(offset_of!(MemoryRegionOps, implemented) == 64);
    assert!(offset_of!(ImplementedAccesses, unaligned) == 8);
};

// SAFETY: its pointers are null or to functions; QEMU only reads it.
unsafe impl Sync for MemoryRegionOps {}

/// `qemu_info_t`, as far as it is read: what QEMU tells a plugin.
#[repr(C)]
pub(crate) struct PluginInfo {
    target_name: *const c_char,
    /// The oldest plugin interface that this QEMU accepts.
    pub(crate) oldest_api: c_int,
    /// The newest.
    pub(crate) newest_api: c_int,
}

const _: () = {
    assert!(offset_of!(PluginInfo, oldest_api) == 8);
    assert!(offset_of!(PluginInfo, newest_api) == 12);
};

/// `QEMU_CLOCK_VIRTUAL`: the guest's time, which stands still while the guest does.
pub(crate) const CLOCK_VIRTUAL: c_int = 1;

/// `SCALE_NS`.
pub(crate) const SCALE_NS: c_int = 1;

/// `QEMU_PLUGIN_CB_RW_REGS`: guest registers are in memory, not in host registers, when the callback runs.
pub(crate) const CALLBACK_RW_REGS: c_int = 2;

//! The error log: entries that drivers write for the system's administrator. Here they become lines of the console.

use core::arch::naked_asm;
use core::ffi::c_void;

use crate::console::println;
use squall_testkernel_pure::pool::Kind;

use crate::ex::pool;
use crate::ldr::export::export;
use crate::nt::{IO_ERROR_LOG_PACKET, PVOID};
use crate::selftest::{check, kernel_test};

/// `ERROR_LOG_MAXIMUM_SIZE`.
const MAX_SIZE: usize = 240;

unsafe extern "win64" fn allocate(_object: *mut c_void, size: u8, caller: usize) -> *mut IO_ERROR_LOG_PACKET {
    let size = usize::from(size);
    if !(size_of::<IO_ERROR_LOG_PACKET>()..=MAX_SIZE).contains(&size) {
        return core::ptr::null_mut();
    }
    let block = pool::allocate_object(size, Kind::ErrorLogEntry, caller);
    block.map_or(core::ptr::null_mut(), |block| block.as_ptr().cast())
}

export! {
    /// *IoAllocateErrorLogEntry function (wdm.h)*: null where the size is below the packet's or above
    /// ERROR_LOG_MAXIMUM_SIZE.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn IoAllocateErrorLogEntry(object: PVOID, size: u8) -> *mut IO_ERROR_LOG_PACKET {
        naked_asm!("mov r8, [rsp]", "jmp {}", sym allocate)
    }

    /// *IoWriteErrorLogEntry function (wdm.h)*: the entry is the system's from here on.
    pub unsafe extern "win64" fn IoWriteErrorLogEntry(entry: *mut IO_ERROR_LOG_PACKET) {
        // SAFETY: the caller gives an entry that it allocated.
        let IO_ERROR_LOG_PACKET { ErrorCode: code, UniqueErrorValue: unique, FinalStatus: status, .. } =
            unsafe { entry.read() };
        println!("error log: code {code}, value 0x{unique:x}, status {status}");
        pool::free(entry.addr(), 0);
    }

    /// *IoFreeErrorLogEntry function (ntddk.h)*: one that is not to be written.
    pub unsafe extern "win64" fn IoFreeErrorLogEntry(entry: *mut IO_ERROR_LOG_PACKET) {
        pool::free(entry.addr(), 0);
    }
}

kernel_test! {
    /// *IoAllocateErrorLogEntry function*: no entry is smaller than its packet or larger than the maximum.
    fn an_error_log_entry_is_bounded() {
        let object = core::ptr::null_mut();
        // SAFETY: each entry is given back.
        unsafe {
            check!(IoAllocateErrorLogEntry(object, 0x2F).is_null() && IoAllocateErrorLogEntry(object, 241).is_null());
            let entry = IoAllocateErrorLogEntry(object, 0x30);
            check!(!entry.is_null() && (*entry).DumpDataSize == 0);
            (*entry).UniqueErrorValue = 7;
            IoWriteErrorLogEntry(entry);
            let entry = IoAllocateErrorLogEntry(object, 240);
            check!(!entry.is_null());
            IoFreeErrorLogEntry(entry);
        }
    }
}

//! What programs call a volume: its drive letter.

use alloc::format;

use squall_testkernel_pure::utf16;

use crate::ex::pool;
use crate::ldr::export::export;
use crate::nt::{
    NTSTATUS, PVOID, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER, STATUS_SUCCESS, UNICODE_STRING,
};
use crate::ob::names;
use crate::selftest::{check, kernel_test};

/// The drive letter that leads to the device at `device`.
fn drive_of(device: usize) -> Option<u16> {
    let leads_there = |letter: &u8| {
        let link = utf16::encode(&format!(r"\??\{}:", char::from(*letter)));
        names::with(|names| names.resolve(&link))
            .is_ok_and(|(object, rest)| object == device && rest.is_empty())
    };
    (b'A'..=b'Z').find(leads_there).map(u16::from)
}

/// # Safety
/// `name` must lead to storage.
unsafe fn dos_name(device: PVOID, name: *mut UNICODE_STRING) -> NTSTATUS {
    let Some(letter) = drive_of(device.addr()) else { return STATUS_INVALID_PARAMETER };
    let text = [letter, b':'.into(), 0];
    let Some(buffer) = pool::allocate_zeroed(size_of_val(&text), *b"DosN") else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    // SAFETY: the buffer is that long; the caller's contract.
    unsafe {
        buffer.cast::<[u16; 3]>().write(text);
        name.write(UNICODE_STRING { Length: 4, MaximumLength: 6, Buffer: buffer.as_ptr().cast() });
    }
    STATUS_SUCCESS
}

export! {
    /// *IoVolumeDeviceToDosName function (ntddk.h)*: at PASSIVE_LEVEL; the drive letter with its colon, in pool that the caller
    /// frees. STATUS_INVALID_PARAMETER for a device that is no volume with a letter.
    pub unsafe extern "win64" fn IoVolumeDeviceToDosName(device: PVOID, name: *mut UNICODE_STRING) -> NTSTATUS {
        // SAFETY: the caller's.
        unsafe { dos_name(device, name) }
    }

    /// *RtlVolumeDeviceToDosName function (ntddk.h)*, which IoVolumeDeviceToDosName replaces.
    pub unsafe extern "win64" fn RtlVolumeDeviceToDosName(device: PVOID, name: *mut UNICODE_STRING) -> NTSTATUS {
        // SAFETY: the caller's.
        unsafe { dos_name(device, name) }
    }
}

kernel_test! {
    fn a_volume_has_a_letter_and_nothing_else_has_one() {
        let volume = names::with(|names| names.resolve(&utf16::encode(r"\Device\HarddiskVolume1")));
        check!(volume.is_ok_and(|(volume, _)| drive_of(volume) == Some(b'C'.into())));
        check!(drive_of(0).is_none() && drive_of(0x1000).is_none());
    }
}

//! Counts of devices that drivers keep for the system.

use core::cell::UnsafeCell;

use crate::ldr::export::export;
use crate::nt::{BOOLEAN, CONFIGURATION_INFORMATION};

struct Shared(UnsafeCell<CONFIGURATION_INFORMATION>);

// SAFETY: drivers change the counts without a lock, as they do on Windows; each is a word of its own.
unsafe impl Sync for Shared {}

static CONFIGURATION: Shared = Shared(UnsafeCell::new(CONFIGURATION_INFORMATION {
    DiskCount: 0,
    FloppyCount: 0,
    CdRomCount: 0,
    TapeCount: 0,
    ScsiPortCount: 0,
    SerialCount: 1,
    ParallelCount: 0,
    AtDiskPrimaryAddressClaimed: 0,
    AtDiskSecondaryAddressClaimed: 0,
    Version: size_of::<CONFIGURATION_INFORMATION>() as u32,
    MediumChangerCount: 0,
}));

/// The counts as they are: a name of each, and how many.
pub fn counts() -> [(&'static str, u32); 8] {
    // SAFETY: a copy of words that drivers may be changing; each is read whole.
    let now = unsafe { CONFIGURATION.0.get().read_volatile() };
    [
        ("DiskCount", now.DiskCount),
        ("FloppyCount", now.FloppyCount),
        ("CdRomCount", now.CdRomCount),
        ("TapeCount", now.TapeCount),
        ("ScsiPortCount", now.ScsiPortCount),
        ("SerialCount", now.SerialCount),
        ("ParallelCount", now.ParallelCount),
        ("MediumChangerCount", now.MediumChangerCount),
    ]
}

export! {
    /// *IoIsWdmVersionAvailable function (wdm.h)*: 6.0, as every Windows since Vista.
    pub unsafe extern "win64" fn IoIsWdmVersionAvailable(major: u8, minor: u8) -> BOOLEAN {
        ((major, minor) <= (6, 0)).into()
    }

    /// *IoGetConfigurationInformation function (ntddk.h)*: the caller changes the counts in place.
    pub unsafe extern "win64" fn IoGetConfigurationInformation() -> *mut CONFIGURATION_INFORMATION {
        CONFIGURATION.0.get()
    }
}

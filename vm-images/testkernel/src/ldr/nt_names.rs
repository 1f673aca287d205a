//! The names that begin with `Nt`.
//!
//! Windows exports some of its services to drivers by both names. `Zw` says that the caller is the kernel; `Nt` leaves the mode as it is, which
//! in a driver's own thread, and every thread here is a driver's or the system's, is the kernel's too. So both lead to the same.

use core::ffi::c_void;

use super::export::{Export, Module};
use crate::io::zw_file as file;
use crate::ob::handle;

macro_rules! aliases {
    ($($name:ident => $routine:path;)*) => { $(
        const _: () = {
            #[used]
            #[unsafe(link_section = ".squall.exports")]
            static EXPORT: Export =
                Export::new(Module::Ntoskrnl, stringify!($name), "NTSTATUS", $routine as *const c_void);
        };
    )* };
}

aliases! {
    NtAllocateLocallyUniqueId => crate::se::luid::ZwAllocateLocallyUniqueId;
    NtClose => handle::ZwClose;
    NtCreateEvent => crate::ex::named_event::ZwCreateEvent;
    NtCreateFile => file::ZwCreateFile;
    NtCreateSection => crate::mm::section_object::ZwCreateSection;
    NtDeleteFile => file::ZwDeleteFile;
    NtDeviceIoControlFile => file::ZwDeviceIoControlFile;
    NtDuplicateObject => crate::ob::by_name::ZwDuplicateObject;
    NtFsControlFile => file::ZwFsControlFile;
    NtMapViewOfSection => crate::mm::section_object::ZwMapViewOfSection;
    NtOpenFile => file::ZwOpenFile;
    NtQueryInformationFile => file::ZwQueryInformationFile;
    NtQueryVolumeInformationFile => file::ZwQueryVolumeInformationFile;
    NtReadFile => file::ZwReadFile;
    NtSetEvent => crate::ex::named_event::ZwSetEvent;
    NtSetInformationFile => file::ZwSetInformationFile;
    NtWaitForSingleObject => handle::ZwWaitForSingleObject;
    NtWriteFile => file::ZwWriteFile;
}

/// `NtBuildNumber`: with the bit that says that it is a free build.
static BUILD: u32 = 0xF000_0000 | crate::rtl::version::BUILD;

super::export::export_data! {
    NtBuildNumber => BUILD;
}

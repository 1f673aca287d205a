//! Drivers that are told of threads, images and processes that come and go.
//!
//! A routine is called at PASSIVE_LEVEL in a critical region: of a thread that a driver makes in the thread that makes it, before it
//! runs, and of one that ends in that thread itself; of a driver's image when it is laid out, before its DriverEntry. There is
//! one process and it never ends, so routines for processes are registered and taken back as documented and have nothing to
//! be called for. The kernel's own threads are nobody's business.
//!
//! Who takes a routine back waits until it is not running any more. One that Unload leaves is called in an image that is gone.

use alloc::vec::Vec;
use core::mem::transmute;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use squall_testkernel_pure::utf16;

use super::process::SYSTEM_ID;
use crate::ke::apc::{KeEnterCriticalRegion, KeLeaveCriticalRegion};
use crate::ke::lock::SpinLock;
use crate::ke::thread;
use crate::ldr::export::export;
use crate::mm::modules;
use crate::nt::{
    BOOLEAN, FALSE, HANDLE, NTSTATUS, PVOID, STATUS_ACCESS_DENIED, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_PARAMETER, STATUS_INVALID_PARAMETER_2, STATUS_PROCEDURE_NOT_FOUND, STATUS_SUCCESS, TRUE,
    UNICODE_STRING,
};
use crate::selftest::{check, kernel_test};

/// `PCREATE_THREAD_NOTIFY_ROUTINE`, and of processes: `PCREATE_PROCESS_NOTIFY_ROUTINE`.
pub type NotifyRoutine = unsafe extern "win64" fn(first: HANDLE, second: HANDLE, create: BOOLEAN);
/// `PCREATE_PROCESS_NOTIFY_ROUTINE_EX`.
pub type NotifyRoutineEx = unsafe extern "win64" fn(process: PVOID, id: HANDLE, info: PVOID);
/// `PLOAD_IMAGE_NOTIFY_ROUTINE`.
pub type ImageRoutine =
    unsafe extern "win64" fn(name: *const UNICODE_STRING, process: HANDLE, info: *const IMAGE_INFO);

/// `IMAGE_INFO`.
#[derive(Debug)]
#[repr(C)]
pub struct IMAGE_INFO {
    properties: u32,
    base: PVOID,
    selector: u32,
    size: usize,
    section: u32,
}

const _: () = assert!(size_of::<IMAGE_INFO>() == 0x28);

/// `ImageAddressingMode`, `IMAGE_ADDRESSING_MODE_32BIT` for images of any width, and `SystemModeImage`.
const SYSTEM_IMAGE: u32 = 3 | 1 << 8;
/// `PS_IMAGE_NOTIFY_CONFLICTING_ARCHITECTURE`: there are no images of another.
const CONFLICTING_ARCHITECTURE: usize = 1;

/// As many routines of a kind as there can be.
const MOST: usize = 64;

/// Routines of one kind.
struct Routines {
    slots: [AtomicUsize; MOST],
    /// Threads that are calling them.
    calling: AtomicUsize,
}

static THREADS: Routines = Routines::new();
/// Those that are to be told of threads that are no system threads.
static USER_THREADS: Routines = Routines::new();
static IMAGES: Routines = Routines::new();
static PROCESSES: Routines = Routines::new();
static PROCESSES_EX: Routines = Routines::new();
/// Held while a routine for processes is registered: both kinds together have one limit.
static REGISTERING: SpinLock<()> = SpinLock::new(());

impl Routines {
    const fn new() -> Self {
        Self { slots: [const { AtomicUsize::new(0) }; MOST], calling: AtomicUsize::new(0) }
    }

    fn all(&self) -> impl Iterator<Item = usize> {
        self.slots.iter().map(|slot| slot.load(Ordering::SeqCst)).filter(|routine| *routine != 0)
    }

    fn replace(&self, from: usize, to: usize) -> bool {
        let exchanged =
            |slot: &AtomicUsize| slot.compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        self.slots.iter().any(exchanged)
    }

    fn add(&self, routine: usize) -> NTSTATUS {
        if self.replace(0, routine) { STATUS_SUCCESS } else { STATUS_INSUFFICIENT_RESOURCES }
    }

    /// When this returns the routine is not running.
    fn remove(&self, routine: usize) -> NTSTATUS {
        if !self.replace(routine, 0) {
            return STATUS_PROCEDURE_NOT_FOUND;
        }
        while self.calling.load(Ordering::SeqCst) != 0 {
            thread::sleep_ns(100_000);
        }
        STATUS_SUCCESS
    }

    fn call(&self, each: impl Fn(usize)) {
        self.calling.fetch_add(1, Ordering::SeqCst);
        // SAFETY: entered and left as often.
        unsafe { KeEnterCriticalRegion() };
        self.all().for_each(each);
        // SAFETY: as above.
        unsafe { KeLeaveCriticalRegion() };
        self.calling.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A driver has made the thread with this number, which is about to run; or it ends, on itself.
pub fn thread_comes_or_goes(id: HANDLE, comes: bool) {
    THREADS.call(|routine| {
        // SAFETY: a driver gave it as such a routine. If its image is gone, the call faults: a bug check.
        unsafe {
            let routine = transmute::<usize, NotifyRoutine>(routine);
            routine(ptr::without_provenance_mut(SYSTEM_ID), id, comes.into());
        }
    });
}

/// A driver's image lies in `range`, and nothing of it has run.
pub fn image_is_loaded(path: &str, range: &Range<u64>) {
    if IMAGES.all().next().is_none() {
        return;
    }
    let mut name = utf16::encode(path);
    let bytes = u16::try_from(name.len() * 2).unwrap_or(u16::MAX - 1);
    let name = UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: name.as_mut_ptr() };
    let base = ptr::with_exposed_provenance_mut(range.start as usize);
    let size = (range.end - range.start) as usize;
    let info = IMAGE_INFO { properties: SYSTEM_IMAGE, base, selector: 0, size, section: 0 };
    IMAGES.call(|routine| {
        // SAFETY: as above; name and description live until it returns. An image of the system's is in no process.
        unsafe {
            let routine = transmute::<usize, ImageRoutine>(routine);
            routine(&raw const name, ptr::null_mut(), &raw const info);
        }
    });
}

/// Routines in `range` that are registered, each with what takes it back.
pub fn leading_into(range: &Range<u64>) -> Vec<(u64, &'static str)> {
    let kinds = [
        (&THREADS, "PsRemoveCreateThreadNotifyRoutine"),
        (&USER_THREADS, "PsRemoveCreateThreadNotifyRoutine"),
        (&IMAGES, "PsRemoveLoadImageNotifyRoutine"),
        (&PROCESSES, "PsSetCreateProcessNotifyRoutine"),
        (&PROCESSES_EX, "PsSetCreateProcessNotifyRoutineEx"),
    ];
    let mine = kinds
        .into_iter()
        .flat_map(|(routines, undo)| routines.all().map(move |routine| (routine as u64, undo)));
    mine.filter(|(routine, _)| range.contains(routine)).collect()
}

fn of_processes(routines: &Routines, routine: usize, remove: BOOLEAN) -> NTSTATUS {
    if remove != FALSE {
        return routines.remove(routine);
    }
    let _registering = REGISTERING.lock();
    let count = PROCESSES.all().count() + PROCESSES_EX.all().count();
    if count >= MOST || routines.all().any(|other| other == routine) {
        return STATUS_INVALID_PARAMETER;
    }
    routines.add(routine)
}

/// Whether the image that holds `routine` was linked with /INTEGRITYCHECK.
pub fn is_of_an_image_with_integrity(routine: usize) -> bool {
    /// `IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY`.
    const FORCE_INTEGRITY: u16 = 0x80;
    /// From an image's first byte to where its PE header's offset is, and from that header to the characteristics.
    const HEADER_OFFSET: usize = 0x3C;
    const CHARACTERISTICS: usize = 0x5E;
    let Some((module, _)) = modules::lookup(routine as u64).filter(|(module, _)| !module.unloaded) else {
        return false;
    };
    let base = ptr::with_exposed_provenance::<u8>(module.base as usize);
    // SAFETY: the image is loaded, and its headers, which the loader has checked, are the first of it.
    unsafe {
        let header = base.add(HEADER_OFFSET).cast::<u32>().read_unaligned() as usize;
        base.add(header + CHARACTERISTICS).cast::<u16>().read_unaligned() & FORCE_INTEGRITY != 0
    }
}

export! {
    /// *PsSetCreateThreadNotifyRoutine function (ntddk.h)*: STATUS_INSUFFICIENT_RESOURCES where there are 64.
    pub unsafe extern "win64" fn PsSetCreateThreadNotifyRoutine(routine: Option<NotifyRoutine>) -> NTSTATUS {
        let Some(routine) = routine else { return STATUS_INVALID_PARAMETER };
        THREADS.add(routine as *const () as usize)
    }

    /// *PsSetCreateThreadNotifyRoutineEx function (ntddk.h)*: of threads of every kind, or of those that are no system threads, of which there are none;
    /// STATUS_INVALID_PARAMETER for another kind.
    pub unsafe extern "win64" fn PsSetCreateThreadNotifyRoutineEx(kind: u32, routine: Option<NotifyRoutine>) -> NTSTATUS {
        /// `PsCreateThreadNotifyNonSystem`.
        const NON_SYSTEM: u32 = 0;
        /// `PsCreateThreadNotifySubsystems`.
        const SUBSYSTEMS: u32 = 1;
        let Some(routine) = routine else { return STATUS_INVALID_PARAMETER };
        match kind {
            NON_SYSTEM => USER_THREADS.add(routine as *const () as usize),
            SUBSYSTEMS => THREADS.add(routine as *const () as usize),
            _ => STATUS_INVALID_PARAMETER,
        }
    }

    /// *PsRemoveCreateThreadNotifyRoutine function (ntddk.h)*: STATUS_PROCEDURE_NOT_FOUND where it is not registered.
    pub unsafe extern "win64" fn PsRemoveCreateThreadNotifyRoutine(routine: Option<NotifyRoutine>) -> NTSTATUS {
        let Some(routine) = routine else { return STATUS_PROCEDURE_NOT_FOUND };
        let routine = routine as *const () as usize;
        match THREADS.remove(routine) {
            STATUS_PROCEDURE_NOT_FOUND => USER_THREADS.remove(routine),
            status => status,
        }
    }

    /// *PsSetLoadImageNotifyRoutine function (ntddk.h)*: STATUS_INSUFFICIENT_RESOURCES where there are 64.
    pub unsafe extern "win64" fn PsSetLoadImageNotifyRoutine(routine: Option<ImageRoutine>) -> NTSTATUS {
        let Some(routine) = routine else { return STATUS_INVALID_PARAMETER };
        IMAGES.add(routine as *const () as usize)
    }

    /// *PsSetLoadImageNotifyRoutineEx function (ntddk.h)*: STATUS_INVALID_PARAMETER_2 for a flag that there is not.
    pub unsafe extern "win64" fn PsSetLoadImageNotifyRoutineEx(routine: Option<ImageRoutine>, flags: usize) -> NTSTATUS {
        if flags & !CONFLICTING_ARCHITECTURE != 0 {
            return STATUS_INVALID_PARAMETER_2;
        }
        // SAFETY: the caller's.
        unsafe { PsSetLoadImageNotifyRoutine(routine) }
    }

    /// *PsRemoveLoadImageNotifyRoutine function (ntddk.h)*: STATUS_PROCEDURE_NOT_FOUND where it is not registered.
    pub unsafe extern "win64" fn PsRemoveLoadImageNotifyRoutine(routine: Option<ImageRoutine>) -> NTSTATUS {
        let Some(routine) = routine else { return STATUS_PROCEDURE_NOT_FOUND };
        IMAGES.remove(routine as *const () as usize)
    }

    /// *PsSetCreateProcessNotifyRoutine function (ntddk.h)*: STATUS_INVALID_PARAMETER where it is registered already or there are 64;
    /// STATUS_PROCEDURE_NOT_FOUND where one that is not registered is to be removed.
    pub unsafe extern "win64" fn PsSetCreateProcessNotifyRoutine(
        routine: Option<NotifyRoutine>,
        remove: BOOLEAN,
    ) -> NTSTATUS {
        let Some(routine) = routine else { return STATUS_INVALID_PARAMETER };
        of_processes(&PROCESSES, routine as *const () as usize, remove)
    }

    /// *PsSetCreateProcessNotifyRoutineEx function (ntddk.h)*: as above; STATUS_ACCESS_DENIED where the routine's image has not
    /// IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY.
    pub unsafe extern "win64" fn PsSetCreateProcessNotifyRoutineEx(
        routine: Option<NotifyRoutineEx>,
        remove: BOOLEAN,
    ) -> NTSTATUS {
        let Some(routine) = routine.map(|routine| routine as *const () as usize) else { return STATUS_INVALID_PARAMETER };
        if remove == FALSE && !is_of_an_image_with_integrity(routine) {
            return STATUS_ACCESS_DENIED;
        }
        of_processes(&PROCESSES_EX, routine, remove)
    }

    /// *PsSetCreateProcessNotifyRoutineEx2 function (ntddk.h)*: as PsSetCreateProcessNotifyRoutineEx; STATUS_INVALID_PARAMETER for another type than
    /// PsCreateProcessNotifySubsystems.
    pub unsafe extern "win64" fn PsSetCreateProcessNotifyRoutineEx2(
        kind: u32,
        information: Option<NotifyRoutineEx>,
        remove: BOOLEAN,
    ) -> NTSTATUS {
        if kind != 0 {
            return STATUS_INVALID_PARAMETER;
        }
        // SAFETY: the caller's routine.
        unsafe { PsSetCreateProcessNotifyRoutineEx(information, remove) }
    }
}

kernel_test! {
    /// *PsSetCreateProcessNotifyRoutine function (ntddk.h)*: once each, 64 in all, and taken back.
    fn routines_are_registered_up_to_a_limit_and_taken_back() {
        unsafe extern "win64" fn routine(_: HANDLE, _: HANDLE, _: BOOLEAN) {}
        let at = routine as *const () as usize;
        // SAFETY: the routine lives for ever; there are no processes to be told of.
        unsafe {
            check!(PsSetCreateProcessNotifyRoutine(Some(routine), FALSE) == STATUS_SUCCESS);
            check!(PsSetCreateProcessNotifyRoutine(Some(routine), FALSE) == STATUS_INVALID_PARAMETER);
            check!(leading_into(&(at as u64..at as u64 + 1)).len() == 1);
            check!(PsSetCreateProcessNotifyRoutine(Some(routine), TRUE) == STATUS_SUCCESS);
            check!(PsSetCreateProcessNotifyRoutine(Some(routine), TRUE) == STATUS_PROCEDURE_NOT_FOUND);
            for number in 1..=MOST {
                check!(of_processes(&PROCESSES, number, FALSE) == STATUS_SUCCESS);
            }
            check!(PsSetCreateProcessNotifyRoutine(Some(routine), FALSE) == STATUS_INVALID_PARAMETER);
            for number in 1..=MOST {
                check!(of_processes(&PROCESSES, number, TRUE) == STATUS_SUCCESS);
            }
            let mut registered = 0;
            while PsSetCreateThreadNotifyRoutine(Some(routine)) == STATUS_SUCCESS {
                registered += 1;
            }
            check!(registered == MOST && PsSetCreateThreadNotifyRoutine(Some(routine)) == STATUS_INSUFFICIENT_RESOURCES);
            while PsRemoveCreateThreadNotifyRoutine(Some(routine)) == STATUS_SUCCESS {
                registered -= 1;
            }
            check!(registered == 0);
        }
    }
}

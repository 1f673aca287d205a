//! Drivers that are told of handles for processes and threads, before each is made and after.
//!
//! Before, a routine may take rights away from what is asked for, and no more than that. Registrations are asked in the order of their
//! altitudes, the highest first, and afterwards the other way round, in the thread that asks.
//!
//! One that Unload leaves is called in an image that is gone.
//!
//! Source: *ObRegisterCallbacks function (wdm.h)*, *OB_OPERATION_REGISTRATION structure (wdm.h)*.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::types::Kind;
use crate::cm::callback::{altitude_of, by_altitude};
use crate::ke::lock::SpinLock;
use crate::ke::thread;
use crate::ldr::export::export;
use crate::nt::{
    NTSTATUS, PVOID, STATUS_ACCESS_DENIED, STATUS_FLT_INSTANCE_ALTITUDE_COLLISION, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS, UNICODE_STRING,
};
use crate::ps;
use crate::ps::notify::is_of_an_image_with_integrity;
use crate::selftest::{check, kernel_test};

/// `OB_FLT_REGISTRATION_VERSION`.
const VERSION: u16 = 0x0100;
/// In an operation's flags: the handle is the kernel's.
const KERNEL_HANDLE: u32 = 1;

/// `OB_OPERATION_HANDLE_CREATE` and `OB_OPERATION_HANDLE_DUPLICATE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Operation {
    /// A handle is opened or made.
    Create = 1,
    /// One is made from another.
    Duplicate = 2,
}

/// `OB_PRE_OPERATION_INFORMATION`.
#[derive(Debug)]
#[repr(C)]
pub struct Before {
    operation: u32,
    flags: u32,
    object: PVOID,
    kind: PVOID,
    context: PVOID,
    parameters: *mut Wanted,
}

/// `OB_PRE_CREATE_HANDLE_INFORMATION`, and with the last two `OB_PRE_DUPLICATE_HANDLE_INFORMATION`.
#[derive(Debug)]
#[repr(C)]
pub struct Wanted {
    desired: u32,
    original: u32,
    source: PVOID,
    target: PVOID,
}

/// `OB_POST_OPERATION_INFORMATION`.
#[derive(Debug)]
#[repr(C)]
pub struct After {
    operation: u32,
    flags: u32,
    object: PVOID,
    kind: PVOID,
    context: PVOID,
    status: NTSTATUS,
    /// `OB_POST_CREATE_HANDLE_INFORMATION`: the rights.
    parameters: *mut u32,
}

const _: () = assert!(size_of::<Before>() == 0x28 && size_of::<After>() == 0x30);

/// `POB_PRE_OPERATION_CALLBACK`.
pub type Pre = unsafe extern "win64" fn(context: PVOID, information: *mut Before) -> u32;
/// `POB_POST_OPERATION_CALLBACK`.
pub type Post = unsafe extern "win64" fn(context: PVOID, information: *mut After);

/// `OB_OPERATION_REGISTRATION`.
#[derive(Debug)]
#[repr(C)]
pub struct OB_OPERATION_REGISTRATION {
    kind: *const PVOID,
    operations: u32,
    before: Option<Pre>,
    after: Option<Post>,
}

/// `OB_CALLBACK_REGISTRATION`.
#[derive(Debug)]
#[repr(C)]
pub struct OB_CALLBACK_REGISTRATION {
    version: u16,
    count: u16,
    altitude: UNICODE_STRING,
    context: PVOID,
    operations: *const OB_OPERATION_REGISTRATION,
}

const _: () = assert!(size_of::<OB_CALLBACK_REGISTRATION>() == 0x28);

/// What one registration wants to be told of handles for one kind of object.
struct Interest {
    kind: Kind,
    operations: u32,
    before: Option<Pre>,
    after: Option<Post>,
}

struct Registration {
    handle: usize,
    altitude: Vec<u16>,
    context: usize,
    interests: Vec<Interest>,
}

/// In the order in which they are asked.
static REGISTERED: SpinLock<Vec<Arc<Registration>>> = SpinLock::new(Vec::new());
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Handles that somebody is being told of.
static CALLING: AtomicUsize = AtomicUsize::new(0);

/// Makes a handle with `work`, which gets the rights that are left, with whoever wants to know told before and after.
pub fn around<T>(
    operation: Operation,
    object: usize,
    desired: u32,
    work: impl FnOnce(u32) -> Result<T, NTSTATUS>,
) -> Result<T, NTSTATUS> {
    let kind = super::kind(object).filter(|kind| matches!(kind, Kind::Process | Kind::Thread));
    let Some(kind) = kind.filter(|_| COUNT.load(Ordering::SeqCst) > 0) else { return work(desired) };
    CALLING.fetch_add(1, Ordering::SeqCst);
    let told = REGISTERED.lock().clone();
    let interests =
        told.iter().flat_map(|entry| entry.interests.iter().map(move |interest| (entry, interest)));
    let mut interested: Vec<_> = interests
        .filter(|(_, interest)| interest.kind == kind && interest.operations & operation as u32 != 0)
        .map(|(entry, interest)| {
            (core::ptr::with_exposed_provenance_mut(entry.context), interest, core::ptr::null_mut())
        })
        .collect();
    let (at, of) = (core::ptr::with_exposed_provenance_mut(object), kind.object_type());
    let process = ps::process::system();
    let mut left = desired;
    for (context, interest, call) in &mut interested {
        let mut wanted = Wanted { desired: left, original: desired, source: process, target: process };
        let mut before = Before {
            operation: operation as u32,
            flags: KERNEL_HANDLE,
            object: at,
            kind: of,
            context: core::ptr::null_mut(),
            parameters: &raw mut wanted,
        };
        if let Some(routine) = interest.before {
            // SAFETY: a driver gave it as such a routine, and gets what it is promised. If its image is gone, the call faults.
            unsafe { routine(*context, &raw mut before) };
            *call = before.context;
            // Rights are taken away, never added.
            left &= wanted.desired;
        }
    }
    let made = work(left);
    let status = made.as_ref().err().copied().unwrap_or(STATUS_SUCCESS);
    for (context, interest, call) in interested.iter().rev() {
        let mut granted = left;
        let mut after = After {
            operation: operation as u32,
            flags: KERNEL_HANDLE,
            object: at,
            kind: of,
            context: *call,
            status,
            parameters: &raw mut granted,
        };
        if let Some(routine) = interest.after {
            // SAFETY: as above.
            unsafe { routine(*context, &raw mut after) };
        }
    }
    CALLING.fetch_sub(1, Ordering::SeqCst);
    made
}

/// The routines of a registration, none twice.
fn routines(entry: &Registration) -> impl Iterator<Item = u64> {
    entry.interests.iter().flat_map(|interest| {
        [
            interest.before.map(|routine| routine as *const () as u64),
            interest.after.map(|routine| routine as *const () as u64),
        ]
        .into_iter()
        .flatten()
    })
}

/// Registrations that lead into `range`, each with a routine of its own there.
pub fn leading_into(range: &Range<u64>) -> Vec<(usize, u64)> {
    let registered = REGISTERED.lock();
    let inside = |entry: &Arc<Registration>| {
        routines(entry).find(|routine| range.contains(routine)).map(|routine| (entry.handle, routine))
    };
    registered.iter().filter_map(inside).collect()
}

/// # Safety
/// `given` must be valid.
unsafe fn interests_of(given: &OB_CALLBACK_REGISTRATION) -> Result<Vec<Interest>, NTSTATUS> {
    if given.version & 0xFF00 != VERSION || given.count == 0 || given.operations.is_null() {
        return Err(STATUS_INVALID_PARAMETER);
    }
    let mut interests = Vec::new();
    for index in 0..usize::from(given.count) {
        // SAFETY: the caller's contract: so many of them, each leading to the pointer to a type.
        let (operation, kind) = unsafe {
            let operation = &*given.operations.add(index);
            (operation, operation.kind.as_ref().copied().unwrap_or(core::ptr::null_mut()))
        };
        let kind = [Kind::Process, Kind::Thread].into_iter().find(|known| known.object_type() == kind);
        let (before, after) = (operation.before, operation.after);
        let wants = operation.operations & 3 != 0 && operation.operations & !3 == 0;
        match kind.filter(|_| wants && (before.is_some() || after.is_some())) {
            Some(kind) => interests.push(Interest { kind, operations: operation.operations, before, after }),
            None => return Err(STATUS_INVALID_PARAMETER),
        }
    }
    Ok(interests)
}

export! {
    /// *ObRegisterCallbacks function (wdm.h)*: for processes and threads. STATUS_INVALID_PARAMETER for what makes no sense, STATUS_ACCESS_DENIED
    /// where a routine's image has not IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY, STATUS_FLT_INSTANCE_ALTITUDE_COLLISION where somebody has
    /// that altitude.
    pub unsafe extern "win64" fn ObRegisterCallbacks(
        registration: *const OB_CALLBACK_REGISTRATION,
        handle: *mut PVOID,
    ) -> NTSTATUS {
        // SAFETY: the caller gives a valid registration, with a string and so many operations.
        let (given, interests, altitude) = unsafe {
            let given = &*registration;
            match interests_of(given) {
                Ok(interests) => (given, interests, altitude_of(&raw const given.altitude)),
                Err(status) => return status,
            }
        };
        let Some(altitude) = altitude else { return STATUS_INVALID_PARAMETER };
        let mut entry =
            Registration { handle: 0, altitude, context: given.context.expose_provenance(), interests };
        if !routines(&entry).all(|routine| is_of_an_image_with_integrity(routine as usize)) {
            return STATUS_ACCESS_DENIED;
        }
        let mut registered = REGISTERED.lock();
        if registered.iter().any(|other| by_altitude(&other.altitude, &entry.altitude).is_eq()) {
            return STATUS_FLT_INSTANCE_ALTITUDE_COLLISION;
        }
        let place = registered.iter().position(|other| by_altitude(&other.altitude, &entry.altitude).is_lt());
        static NUMBERS: AtomicUsize = AtomicUsize::new(0);
        // No address: a driver is to hand it back, and not to look behind it.
        let number = 0xFFFF_8000_0B00_0000 + 16 * NUMBERS.fetch_add(1, Ordering::Relaxed);
        entry.handle = number;
        let place = place.unwrap_or(registered.len());
        registered.insert(place, Arc::new(entry));
        COUNT.store(registered.len(), Ordering::SeqCst);
        drop(registered);
        // SAFETY: the caller gives storage for the handle.
        unsafe { handle.write(core::ptr::without_provenance_mut(number)) };
        STATUS_SUCCESS
    }

    /// *ObUnRegisterCallbacks function (wdm.h)*: when this returns, none of the routines runs.
    pub unsafe extern "win64" fn ObUnRegisterCallbacks(handle: PVOID) {
        {
            let mut registered = REGISTERED.lock();
            registered.retain(|entry| entry.handle != handle.addr());
            COUNT.store(registered.len(), Ordering::SeqCst);
        }
        while CALLING.load(Ordering::SeqCst) != 0 {
            thread::sleep_ns(100_000);
        }
    }

    /// *ObGetFilterVersion function (wdm.h)*: OB_FLT_REGISTRATION_VERSION.
    pub unsafe extern "win64" fn ObGetFilterVersion() -> u16 {
        VERSION
    }
}

kernel_test! {
    /// *ObRegisterCallbacks function (wdm.h)*: what makes no sense is refused before anything else is looked at.
    fn registrations_that_make_no_sense_are_refused() {
        unsafe extern "win64" fn before(_: PVOID, _: *mut Before) -> u32 { 0 }
        let altitude = squall_testkernel_pure::utf16::encode("1000");
        let string = UNICODE_STRING { Length: 8, MaximumLength: 8, Buffer: altitude.as_ptr().cast_mut() };
        let (process, file) = (Kind::Process.object_type(), Kind::File.object_type());
        let mut handle = core::ptr::null_mut();
        let mut register = |kind: &PVOID, operations, before: Option<Pre>, version| {
            let operation = OB_OPERATION_REGISTRATION { kind, operations, before, after: None };
            let given = OB_CALLBACK_REGISTRATION {
                version,
                count: 1,
                altitude: UNICODE_STRING { ..string },
                context: core::ptr::null_mut(),
                operations: &raw const operation,
            };
            // SAFETY: locals of the right kind.
            unsafe { ObRegisterCallbacks(&raw const given, &raw mut handle) }
        };
        check!(register(&file, 1, Some(before), VERSION) == STATUS_INVALID_PARAMETER);
        check!(register(&process, 0, Some(before), VERSION) == STATUS_INVALID_PARAMETER);
        check!(register(&process, 1, None, VERSION) == STATUS_INVALID_PARAMETER);
        check!(register(&process, 1, Some(before), 0x200) == STATUS_INVALID_PARAMETER);
        // The kernel's own routine lies in no driver's image.
        check!(register(&process, 3, Some(before), VERSION) == STATUS_ACCESS_DENIED);
        check!(around(Operation::Create, 0, 5, Ok) == Ok(5) && leading_into(&(0..u64::MAX)).is_empty());
    }
}

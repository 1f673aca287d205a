//! Drivers that filter the registry: routines that are told of each operation before it happens and after it.
//!
//! A routine may let an operation be (STATUS_SUCCESS), refuse it (an error, which is the caller's answer) or do it itself
//! (STATUS_CALLBACK_BYPASS); afterwards it may put another answer in its place. Routines are called in the order of their
//! *altitudes*, the highest first, and afterwards the other way round. They run in the thread that asks, at PASSIVE_LEVEL and with
//! no lock held, so they may use the registry themselves.
//!
//! What the guest's agent does to the registry is nobody's operation. One that Unload leaves is called in an image that is gone.
//!
//! Sources: *Filtering Registry Calls*, *Handling Notifications*, *EX_CALLBACK_FUNCTION callback function*.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::ke::lock::SpinLock;
use crate::ke::thread;
use crate::ldr::export::export;
use crate::nt::{
    NTSTATUS, PVOID, STATUS_CALLBACK_BYPASS, STATUS_FLT_INSTANCE_ALTITUDE_COLLISION,
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER, STATUS_SUCCESS, UNICODE_STRING,
};
use crate::selftest::{check, kernel_test};

/// `EX_CALLBACK_FUNCTION`.
pub type Routine = unsafe extern "win64" fn(context: PVOID, class: usize, information: PVOID) -> NTSTATUS;

/// The most routines.
const MOST: usize = 64;

/// `REG_NOTIFY_CLASS` of an operation: before and after it.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    before: usize,
    after: usize,
    /// Which word of its structure is `CallContext`.
    context: usize,
}

macro_rules! operations {
    ($($(#[$meta:meta])* $name:ident = $before:literal, $after:literal, $context:literal;)*) => {
        $($(#[$meta])* pub const $name: Operation = Operation { before: $before, after: $after, context: $context };)*
    };
}

operations! {
    /// `REG_DELETE_KEY_INFORMATION`.
    DELETE_KEY = 0, 15, 1;
    /// `REG_SET_VALUE_KEY_INFORMATION`.
    SET_VALUE = 1, 16, 5;
    /// `REG_DELETE_VALUE_KEY_INFORMATION`.
    DELETE_VALUE = 2, 17, 2;
    /// `REG_ENUMERATE_KEY_INFORMATION`.
    ENUMERATE_KEY = 5, 20, 5;
    /// `REG_ENUMERATE_VALUE_KEY_INFORMATION`.
    ENUMERATE_VALUE = 6, 21, 5;
    /// `REG_QUERY_KEY_INFORMATION`.
    QUERY_KEY = 7, 22, 5;
    /// `REG_QUERY_VALUE_KEY_INFORMATION`.
    QUERY_VALUE = 8, 23, 6;
    /// `REG_KEY_HANDLE_CLOSE_INFORMATION`.
    CLOSE = 14, 25, 1;
    /// `REG_CREATE_KEY_INFORMATION`.
    CREATE_KEY = 26, 27, 10;
    /// `REG_OPEN_KEY_INFORMATION`.
    OPEN_KEY = 28, 29, 10;
    /// `REG_FLUSH_KEY_INFORMATION`.
    FLUSH_KEY = 30, 31, 1;
}

struct Registration {
    cookie: i64,
    /// Empty: the lowest.
    altitude: Vec<u16>,
    routine: Routine,
    context: usize,
}

/// In the order in which they are called.
static ROUTINES: SpinLock<Vec<Arc<Registration>>> = SpinLock::new(Vec::new());
/// How many there are, for operations that nobody is told of.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Operations that routines are being told of.
static CALLING: AtomicUsize = AtomicUsize::new(0);

impl Registration {
    /// # Safety
    /// `information` must be what the class promises.
    unsafe fn call(&self, class: usize, information: *mut u64) -> NTSTATUS {
        let context = core::ptr::with_exposed_provenance_mut(self.context);
        // SAFETY: a driver gave it as such a routine. If its image is gone, the call faults: a bug check.
        unsafe { (self.routine)(context, class, information.cast()) }
    }
}

/// While somebody is told of an operation.
struct Calling;

impl Calling {
    fn begin() -> Self {
        CALLING.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        CALLING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Does `work`, an operation on the registry, with whoever filters it told before and after. `information` is the structure of before
/// in words; `object` is what is operated on, of which `work` may be what finds it.
///
/// # Safety
/// The words must be what the operation's structure promises.
pub unsafe fn around<const N: usize>(
    operation: Operation,
    object: &Cell<usize>,
    mut information: [u64; N],
    work: impl FnOnce() -> NTSTATUS,
) -> NTSTATUS {
    if COUNT.load(Ordering::SeqCst) == 0 {
        return work();
    }
    let _calling = Calling::begin();
    let told = ROUTINES.lock().clone();
    let mut contexts = Vec::with_capacity(told.len());
    let before = information.as_mut_ptr();
    for routine in &told {
        // SAFETY: the caller's contract; the word is one of the structure's.
        let (status, context) = unsafe {
            before.add(operation.context).write(0);
            let status = routine.call(operation.before, before);
            (status, before.add(operation.context).read())
        };
        contexts.push(context);
        if status == STATUS_CALLBACK_BYPASS {
            return STATUS_SUCCESS;
        }
        if !status.is_success() {
            return status;
        }
    }
    let mut status = work();
    for (routine, context) in told.iter().zip(contexts).rev() {
        let object =
            if status.is_success() || operation.context != OPEN_KEY.context { object.get() } else { 0 };
        // REG_POST_OPERATION_INFORMATION: Object, Status, PreInformation, ReturnStatus, CallContext, ObjectContext, Reserved.
        let bits = u64::from(status.bits());
        let mut after = [object as u64, bits, before.expose_provenance() as u64, bits, context, 0, 0];
        // SAFETY: the structure is whole; what it leads to is there until the operation is over.
        let answered = unsafe { routine.call(operation.after, after.as_mut_ptr()) };
        if answered == STATUS_CALLBACK_BYPASS {
            status = NTSTATUS::from_bits(after[3] as u32);
        }
    }
    status
}

/// An altitude as its page has it: a decimal number, of which the part before the point counts first.
pub fn by_altitude(left: &[u16], right: &[u16]) -> core::cmp::Ordering {
    let point = u16::from(b'.');
    let whole = |text: &[u16]| text.iter().take_while(|unit| **unit != point).count();
    whole(left).cmp(&whole(right)).then_with(|| left.cmp(right))
}

/// The altitude that a driver gives; none where that is no number.
///
/// # Safety
/// `altitude` must be null or valid.
pub unsafe fn altitude_of(altitude: *const UNICODE_STRING) -> Option<Vec<u16>> {
    // SAFETY: the caller's contract.
    let units = unsafe { altitude.as_ref()?.units() };
    let is_digit = |unit: &u16| (u16::from(b'0')..=u16::from(b'9')).contains(unit);
    let is_number = units.iter().all(|unit| is_digit(unit) || *unit == u16::from(b'.'));
    (!units.is_empty() && is_number).then(|| units.to_vec())
}

/// Routines in `range` that are registered.
pub fn leading_into(range: &Range<u64>) -> Vec<u64> {
    let routines = ROUTINES.lock();
    let addresses = routines.iter().map(|entry| entry.routine as *const () as u64);
    addresses.filter(|routine| range.contains(routine)).collect()
}

fn register(routine: Option<Routine>, altitude: &[u16], context: PVOID, cookie: *mut i64) -> NTSTATUS {
    static COOKIES: AtomicUsize = AtomicUsize::new(0);
    let Some(routine) = routine else { return STATUS_INVALID_PARAMETER };
    let number = 0x01D5_0000_0000 + COOKIES.fetch_add(1, Ordering::Relaxed) as i64;
    let entry = Registration {
        cookie: number,
        altitude: altitude.to_vec(),
        routine,
        context: context.expose_provenance(),
    };
    let mut routines = ROUTINES.lock();
    if routines.len() == MOST {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    if !altitude.is_empty() && routines.iter().any(|other| by_altitude(&other.altitude, altitude).is_eq()) {
        return STATUS_FLT_INSTANCE_ALTITUDE_COLLISION;
    }
    let place = routines.iter().position(|other| by_altitude(&other.altitude, altitude).is_lt());
    let place = place.unwrap_or(routines.len());
    routines.insert(place, Arc::new(entry));
    COUNT.store(routines.len(), Ordering::SeqCst);
    drop(routines);
    // SAFETY: the callers' storage.
    unsafe { cookie.write(number) };
    STATUS_SUCCESS
}

export! {
    /// *CmRegisterCallback function (wdm.h)*: obsolete; below every routine with an altitude.
    pub unsafe extern "win64" fn CmRegisterCallback(
        routine: Option<Routine>,
        context: PVOID,
        cookie: *mut i64,
    ) -> NTSTATUS {
        register(routine, &[], context, cookie)
    }

    /// *CmRegisterCallbackEx function (wdm.h)*: STATUS_FLT_INSTANCE_ALTITUDE_COLLISION where somebody has that altitude.
    pub unsafe extern "win64" fn CmRegisterCallbackEx(
        routine: Option<Routine>,
        altitude: *const UNICODE_STRING,
        driver: PVOID,
        context: PVOID,
        cookie: *mut i64,
        _reserved: PVOID,
    ) -> NTSTATUS {
        // SAFETY: the caller gives a valid string.
        match unsafe { altitude_of(altitude) } {
            Some(altitude) if !driver.is_null() => register(routine, &altitude, context, cookie),
            _ => STATUS_INVALID_PARAMETER,
        }
    }

    /// *CmUnRegisterCallback function (wdm.h)*: STATUS_INVALID_PARAMETER where no routine has that cookie. When this returns, the routine
    /// runs nowhere.
    pub unsafe extern "win64" fn CmUnRegisterCallback(cookie: i64) -> NTSTATUS {
        {
            let mut routines = ROUTINES.lock();
            let Some(place) = routines.iter().position(|entry| entry.cookie == cookie) else {
                return STATUS_INVALID_PARAMETER;
            };
            routines.remove(place);
            COUNT.store(routines.len(), Ordering::SeqCst);
        }
        while CALLING.load(Ordering::SeqCst) != 0 {
            thread::sleep_ns(100_000);
        }
        STATUS_SUCCESS
    }

    /// *CmGetCallbackVersion function (wdm.h)*: 1.1 since Windows 7.
    pub unsafe extern "win64" fn CmGetCallbackVersion(major: *mut u32, minor: *mut u32) {
        for number in [major, minor] {
            if !number.is_null() {
                // SAFETY: the caller gives storage or null.
                unsafe { number.write(1) };
            }
        }
    }

    /// *CmCallbackGetKeyObjectID function (wdm.h)*: a number that is the same for every object of one key, and the key's path, which
    /// stays as long as the object does.
    pub unsafe extern "win64" fn CmCallbackGetKeyObjectID(
        _cookie: *const i64,
        object: PVOID,
        id: *mut usize,
        name: *mut *const UNICODE_STRING,
    ) -> NTSTATUS {
        let Some(key) = super::key::of_object(object.addr()) else { return STATUS_INVALID_PARAMETER };
        // SAFETY: the caller gives storage or null; the object is alive as long as it is told of.
        unsafe {
            if !id.is_null() {
                id.write(key.number());
            }
            if !name.is_null() {
                match super::key::path_of(object.addr()) {
                    Ok(path) => name.write(path),
                    Err(status) => return status,
                }
            }
        }
        STATUS_SUCCESS
    }
}

kernel_test! {
    /// *CmRegisterCallbackEx function (wdm.h)*: by altitude, each once; refusing, and answering in the registry's stead.
    fn filters_are_asked_from_the_highest_altitude_down() {
        use squall_testkernel_pure::utf16::encode;
        static ORDER: AtomicUsize = AtomicUsize::new(0);
        unsafe extern "win64" fn filter(context: PVOID, class: usize, information: PVOID) -> NTSTATUS {
            ORDER.store(ORDER.load(Ordering::Relaxed) * 16 + context.addr(), Ordering::Relaxed);
            if class == SET_VALUE.after {
                // SAFETY: REG_POST_OPERATION_INFORMATION.
                unsafe { information.cast::<u64>().add(3).write(7) };
                return STATUS_CALLBACK_BYPASS;
            }
            STATUS_SUCCESS
        }
        let mut cookies = [0; 3];
        let altitudes = ["9.5", "360000", "9"].map(encode);
        let counted = |units: &[u16]| UNICODE_STRING {
            Length: (units.len() * 2) as u16,
            MaximumLength: (units.len() * 2) as u16,
            Buffer: units.as_ptr().cast_mut(),
        };
        let this = core::ptr::without_provenance_mut(1);
        // SAFETY: routine and strings live longer than the registrations; the words are read by no routine.
        unsafe {
            for (index, altitude) in altitudes.iter().enumerate() {
                let altitude = counted(altitude);
                let context = core::ptr::without_provenance_mut(index + 1);
                let cookie = &raw mut cookies[index];
                let done = CmRegisterCallbackEx(Some(filter), &raw const altitude, this, context, cookie, this);
                check!(done == STATUS_SUCCESS);
                let twice = CmRegisterCallbackEx(Some(filter), &raw const altitude, this, context, cookie, this);
                check!(twice == STATUS_FLT_INSTANCE_ALTITUDE_COLLISION);
            }
            ORDER.store(0, Ordering::Relaxed);
            let status = around(SET_VALUE, &Cell::new(0), [0; 8], || STATUS_SUCCESS);
            check!(status == NTSTATUS(7) && ORDER.load(Ordering::Relaxed) == 0x21_3312);
            for cookie in cookies {
                check!(CmUnRegisterCallback(cookie) == STATUS_SUCCESS);
                check!(CmUnRegisterCallback(cookie) == STATUS_INVALID_PARAMETER);
            }
            check!(around(SET_VALUE, &Cell::new(0), [0; 8], || STATUS_SUCCESS) == STATUS_SUCCESS);
        }
    }
}

//! Callback objects: a name, and the routines that want to hear of it.
//!
//! One driver creates the object and notifies it; others open it by name and register. A routine that is being
//! called while it is unregistered is waited for, so that its driver may go. The system has objects of its own ([`init`]): nothing that
//! they tell of ever happens here.

use core::ffi::c_void;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::ke::lock::SpinLock;
use crate::ke::thread;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, FALSE, NTSTATUS, OBJECT_ATTRIBUTES, PVOID, STATUS_OBJECT_NAME_NOT_FOUND, STATUS_SUCCESS,
};
use crate::ob;
use crate::ob::types::Kind;
use crate::selftest::{check, kernel_test};

/// `CALLBACK_FUNCTION`.
pub type CallbackFunction = unsafe extern "win64" fn(context: PVOID, argument1: PVOID, argument2: PVOID);

struct Registration {
    function: CallbackFunction,
    context: PVOID,
    /// Cleared when it is unregistered.
    wanted: AtomicBool,
    /// Notifications that may be calling it.
    calling: AtomicUsize,
}

// SAFETY: a driver gives its context to be passed from wherever the notification comes.
unsafe impl Send for Registration {}
// SAFETY: as above; the rest is atomic.
unsafe impl Sync for Registration {}

/// A callback object.
struct Callback {
    /// Empty where it has none.
    name: String,
    several: bool,
    registered: SpinLock<Vec<Arc<Registration>>>,
}

/// Every callback object, by address.
static CALLBACKS: SpinLock<Vec<usize>> = SpinLock::new(Vec::new());
/// What registering returned: the registration's address, and its object's.
static HANDLES: SpinLock<Vec<(usize, usize)>> = SpinLock::new(Vec::new());

fn at<'a>(address: usize) -> &'a Callback {
    // SAFETY: private to this module, whose callers hold a reference on the object.
    unsafe { &*core::ptr::with_exposed_provenance::<Callback>(address) }
}

fn delete(address: usize) {
    CALLBACKS.lock().retain(|&other| other != address);
    // SAFETY: made as a box, and nobody refers to it any more.
    drop(unsafe { Box::from_raw(core::ptr::with_exposed_provenance_mut::<Callback>(address)) });
}

/// The name in `attributes`; names are told apart without regard to case, as OBJ_CASE_INSENSITIVE has it.
///
/// # Safety
/// `attributes` is null or readable, with its name.
unsafe fn name_of(attributes: *const OBJECT_ATTRIBUTES) -> String {
    // SAFETY: the caller's.
    unsafe {
        let Some(name) = attributes.as_ref().and_then(|attributes| attributes.ObjectName.as_ref()) else {
            return String::new();
        };
        let units = core::slice::from_raw_parts(name.Buffer, usize::from(name.Length) / size_of::<u16>());
        String::from_utf16_lossy(units).to_ascii_lowercase()
    }
}

/// Makes the system's own: *Using a System-Defined Callback Object*.
pub fn init() {
    for name in [r"\callback\setsystemtime", r"\callback\powerstate", r"\callback\processoradd"] {
        make(String::from(name), true);
    }
}

/// A new object, with one reference.
fn make(name: String, several: bool) -> usize {
    let made = Box::new(Callback { name, several, registered: SpinLock::new(Vec::new()) });
    let address = Box::into_raw(made).expose_provenance();
    ob::insert(address, Kind::Callback, delete);
    CALLBACKS.lock().push(address);
    address
}

/// Registrations whose routine lies in `range`: each with its handle.
pub fn leading_into(range: &Range<u64>) -> Vec<(usize, u64)> {
    let handles = HANDLES.lock();
    let routine_of = |&(handle, _): &(usize, usize)| {
        // SAFETY: a registration lives until its handle is gone, which needs the lock.
        let registration = unsafe { &*core::ptr::with_exposed_provenance::<Registration>(handle) };
        (handle, registration.function as usize as u64)
    };
    handles.iter().map(routine_of).filter(|(_, routine)| range.contains(routine)).collect()
}

/// The object of that name, with one more reference.
fn open(name: &str) -> Option<usize> {
    let callbacks = CALLBACKS.lock();
    callbacks.iter().copied().find(|&address| at(address).name == name && ob::reference(address))
}

export! {
    /// *ExCreateCallback function (wdm.h)*: opens the object of that name, or creates it where `create` says so;
    /// one without a name is always new.
    pub unsafe extern "win64" fn ExCreateCallback(
        object: *mut PVOID,
        attributes: *const OBJECT_ATTRIBUTES,
        create: BOOLEAN,
        several: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the caller's.
        let name = unsafe { name_of(attributes) };
        let found = if name.is_empty() { None } else { open(&name) };
        let address = match found {
            Some(address) => address,
            None if create == FALSE => return STATUS_OBJECT_NAME_NOT_FOUND,
            None => make(name, several != FALSE),
        };
        // SAFETY: the caller's.
        unsafe { object.write(core::ptr::with_exposed_provenance_mut(address)) };
        STATUS_SUCCESS
    }

    /// *ExRegisterCallback function (wdm.h)*: null where the object allows one routine only and has it.
    pub unsafe extern "win64" fn ExRegisterCallback(
        object: PVOID,
        function: Option<CallbackFunction>,
        context: PVOID,
    ) -> PVOID {
        let Some(function) = function else { return core::ptr::null_mut() };
        if !ob::reference(object.addr()) {
            return core::ptr::null_mut();
        }
        let registration = Arc::new(Registration {
            function,
            context,
            wanted: AtomicBool::new(true),
            calling: AtomicUsize::new(0),
        });
        let handle = Arc::as_ptr(&registration).cast_mut().cast::<c_void>();
        handle.expose_provenance();
        let callback = at(object.addr());
        let placed = {
            let mut registered = callback.registered.lock();
            let free = callback.several || registered.is_empty();
            if free {
                registered.push(registration);
            }
            free
        };
        if !placed {
            ob::dereference(object.addr());
            return core::ptr::null_mut();
        }
        HANDLES.lock().push((handle.addr(), object.addr()));
        handle
    }

    /// *ExUnregisterCallback function (wdm.h)*: when it returns, the routine runs nowhere. At PASSIVE_LEVEL.
    pub unsafe extern "win64" fn ExUnregisterCallback(handle: PVOID) {
        let object = {
            let mut handles = HANDLES.lock();
            let Some(index) = handles.iter().position(|&(other, _)| other == handle.addr()) else { return };
            handles.swap_remove(index).1
        };
        let registration = {
            let mut registered = at(object).registered.lock();
            let index = registered.iter().position(|other| Arc::as_ptr(other).addr() == handle.addr());
            index.map(|index| registered.remove(index))
        };
        if let Some(registration) = registration {
            registration.wanted.store(false, Ordering::SeqCst);
            while registration.calling.load(Ordering::SeqCst) != 0 {
                thread::sleep_ns(100_000);
            }
        }
        ob::dereference(object);
    }

    /// *ExNotifyCallback function (wdm.h)*: calls the routines in the order in which they were registered.
    pub unsafe extern "win64" fn ExNotifyCallback(object: PVOID, argument1: PVOID, argument2: PVOID) {
        let registered = at(object.addr()).registered.lock().clone();
        for registration in registered {
            registration.calling.fetch_add(1, Ordering::SeqCst);
            if registration.wanted.load(Ordering::SeqCst) {
                // SAFETY: the driver gave the routine for this call, and waits for it before it goes.
                unsafe { (registration.function)(registration.context, argument1, argument2) };
            }
            registration.calling.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Attributes with nothing but a name.
fn named(name: *mut crate::nt::UNICODE_STRING) -> OBJECT_ATTRIBUTES {
    OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        RootDirectory: core::ptr::null_mut(),
        ObjectName: name,
        Attributes: 0x40,
        SecurityDescriptor: core::ptr::null_mut(),
        SecurityQualityOfService: core::ptr::null_mut(),
    }
}

kernel_test! {
    /// *ExNotifyCallback function (wdm.h)*: in the order of registration; *ExCreateCallback*: by name, again.
    fn callbacks_are_found_by_name_and_called_in_order() {
        static ORDER: AtomicUsize = AtomicUsize::new(0);
        unsafe extern "win64" fn called(context: PVOID, argument1: PVOID, _: PVOID) {
            let so_far = ORDER.load(Ordering::Relaxed);
            ORDER.store(so_far * 100 + context.addr() * 10 + argument1.addr(), Ordering::Relaxed);
        }
        ORDER.store(0, Ordering::Relaxed);
        let mut units: Vec<u16> = "\\Callback\\SquallTest".encode_utf16().collect();
        let bytes = (units.len() * 2) as u16;
        let buffer = units.as_mut_ptr();
        let mut name = crate::nt::UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: buffer };
        let attributes = named(&raw mut name);
        let [mut object, mut again] = [core::ptr::null_mut(); 2];
        let number = core::ptr::without_provenance_mut;
        // SAFETY: everything passed lives until the end of the test.
        unsafe {
            let missing = ExCreateCallback(&raw mut object, &raw const attributes, 0, 1);
            check!(missing == STATUS_OBJECT_NAME_NOT_FOUND);
            check!(ExCreateCallback(&raw mut object, &raw const attributes, 1, 1) == STATUS_SUCCESS);
            check!(ExCreateCallback(&raw mut again, &raw const attributes, 0, 1) == STATUS_SUCCESS);
            check!(object == again && ob::references(object.addr()) == Some(2));
            let first = ExRegisterCallback(object, Some(called), number(1));
            let second = ExRegisterCallback(object, Some(called), number(2));
            check!(!first.is_null() && !second.is_null() && ob::references(object.addr()) == Some(4));
            ExNotifyCallback(object, number(5), core::ptr::null_mut());
            check!(ORDER.load(Ordering::Relaxed) == 1525);
            ExUnregisterCallback(first);
            ExNotifyCallback(object, number(6), core::ptr::null_mut());
            check!(ORDER.load(Ordering::Relaxed) == 152_526);
            ExUnregisterCallback(second);
            check!(ob::dereference(object.addr()) == Some(1) && ob::dereference(object.addr()) == Some(0));
            let gone = ExCreateCallback(&raw mut object, &raw const attributes, 0, 1);
            check!(gone == STATUS_OBJECT_NAME_NOT_FOUND);
        }
    }

    /// *ExRegisterCallback function (wdm.h)*: null where only one routine is allowed and there is one.
    fn an_object_for_one_routine_takes_one() {
        unsafe extern "win64" fn called(_: PVOID, _: PVOID, _: PVOID) {}
        let (null, mut object) = (core::ptr::null_mut(), core::ptr::null_mut());
        // SAFETY: as above.
        unsafe {
            check!(ExCreateCallback(&raw mut object, core::ptr::null(), 1, 0) == STATUS_SUCCESS);
            let first = ExRegisterCallback(object, Some(called), null);
            check!(!first.is_null() && ExRegisterCallback(object, Some(called), null).is_null());
            check!(ExRegisterCallback(object, None, null).is_null());
            ExUnregisterCallback(first);
            check!(ob::dereference(object.addr()) == Some(0));
        }
    }
}

//! Device interfaces: what a device offers, as a class and a name, and who wants to hear of it.
//!
//! A driver registers an interface of a device of the tree and enables it; from then on a symbolic link leads to the device, and
//! everybody who asked for the class is told, in a thread of the system's and in order. An interface that was registered stays so.
//!
//! A registration for notifications holds the driver object, as on Windows: a driver whose Unload leaves one stays in memory.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use squall_testkernel_pure::agent::finding_kind::FindingKind;
use squall_testkernel_pure::utf16;

use super::pnp;
use crate::ex::pool;
use crate::ke::lock::SpinLock;
use crate::ke::thread;
use crate::ldr::caller::{Call, with_caller};
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, DEVICE_OBJECT, DRIVER_OBJECT, GUID, NTSTATUS, PVOID, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_EXISTS,
    STATUS_OBJECT_NAME_NOT_FOUND, STATUS_SUCCESS, UNICODE_STRING,
};
use crate::ob::{self, names};
use crate::selftest::{check, kernel_test};

const fn event(last: u32) -> GUID {
    let data4 = [0xB0, 0x8F, 0x00, 0x60, 0x97, 0x13, 0x05, 0x3F];
    GUID { Data1: last, Data2: 0x46F0, Data3: 0x11D0, Data4: data4 }
}
/// `GUID_DEVICE_INTERFACE_ARRIVAL` and `GUID_DEVICE_INTERFACE_REMOVAL`.
const ARRIVAL: GUID = event(0xCB3A_4004);
const REMOVAL: GUID = event(0xCB3A_4005);

/// `IO_NOTIFICATION_EVENT_CATEGORY`.
const PROFILE_CHANGE: u32 = 1;
const INTERFACE_CHANGE: u32 = 2;
const TARGET_CHANGE: u32 = 3;
/// `PNPNOTIFY_DEVICE_INTERFACE_INCLUDE_EXISTING_INTERFACES` and `DEVICE_INTERFACE_INCLUDE_NONACTIVE`.
const INCLUDE_EXISTING: u32 = 1;
const INCLUDE_DISABLED: u32 = 1;
/// The most interfaces: a driver that registers without end must not fill the memory.
const MAX_INTERFACES: usize = 256;
const BACKSLASH: u16 = b'\\' as u16;

/// `DRIVER_NOTIFICATION_CALLBACK_ROUTINE`.
type Callback = unsafe extern "win64" fn(notification: *const Notification, context: PVOID) -> NTSTATUS;

/// `DEVICE_INTERFACE_CHANGE_NOTIFICATION`.
#[repr(C)]
struct Notification {
    version: u16,
    size: u16,
    event: GUID,
    class: GUID,
    name: *const UNICODE_STRING,
}
const _: () = assert!(size_of::<Notification>() == 0x30);

#[derive(Clone)]
struct Interface {
    pdo: usize,
    class: GUID,
    reference: Vec<u16>,
    /// The symbolic link, without the reference string.
    link: Vec<u16>,
    /// Who enabled it; 0 where it is not.
    enabled_by: usize,
}

impl Interface {
    fn name(&self) -> Vec<u16> {
        let mut name = self.link.clone();
        if !self.reference.is_empty() {
            name.push(BACKSLASH);
            name.extend_from_slice(&self.reference);
        }
        name
    }

    fn is_called(&self, name: &[u16]) -> bool {
        utf16::upcased(&self.name()) == utf16::upcased(name)
    }
}

static INTERFACES: SpinLock<Vec<Interface>> = SpinLock::new(Vec::new());

struct Listener {
    driver: usize,
    callback: Callback,
    context: usize,
    /// None for what never happens here: another hardware profile, a device that goes.
    class: Option<GUID>,
    wanted: AtomicBool,
    /// The thread that is calling it, or about to; 0 for none.
    calling: AtomicUsize,
}

static LISTENERS: SpinLock<Vec<Arc<Listener>>> = SpinLock::new(Vec::new());

impl Listener {
    fn tell(&self, event: GUID, class: GUID, name: &[u16]) {
        let bytes = (name.len() * 2) as u16;
        let string = UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: name.as_ptr().cast_mut() };
        let size = size_of::<Notification>() as u16;
        let notification = Notification { version: 1, size, event, class, name: &raw const string };
        self.calling.store(thread::current().as_ptr().addr(), Ordering::SeqCst);
        if self.wanted.load(Ordering::SeqCst) {
            let context = core::ptr::with_exposed_provenance_mut(self.context);
            // SAFETY: the driver gave the routine for this call; the registration holds the driver.
            let _ = unsafe { (self.callback)(&raw const notification, context) };
        }
        self.calling.store(0, Ordering::SeqCst);
    }
}

/// Something that happened to an interface.
type Event = (GUID, GUID, Vec<u16>);

/// What is still to be told, and whether a thread is at it.
static EVENTS: SpinLock<(VecDeque<Event>, bool)> = SpinLock::new((VecDeque::new(), false));

/// Has everybody told who asked for the class, in the order in which things happen.
fn announce(event: Event) {
    {
        let mut events = EVENTS.lock();
        events.0.push_back(event);
        if core::mem::replace(&mut events.1, true) {
            return;
        }
    }
    let tell_all = || {
        loop {
            let next = {
                let mut events = EVENTS.lock();
                let next = events.0.pop_front();
                events.1 = next.is_some();
                next
            };
            let Some((event, class, name)) = next else { return };
            let listeners = LISTENERS.lock().clone();
            listeners.iter().filter(|other| other.class == Some(class)).for_each(|other| {
                other.tell(event, class, &name);
            });
        }
    };
    if thread::spawn("interfaces", 8, tell_all).is_err() {
        EVENTS.lock().1 = false;
    }
}

/// A string in pool, for the driver to free.
///
/// # Safety
/// `to` must lead to storage.
unsafe fn hand_out(text: &[u16], to: *mut UNICODE_STRING) -> NTSTATUS {
    let bytes = text.len() * 2;
    let Some(buffer) = pool::allocate_zeroed(bytes + 2, *b"Pp  ") else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    let buffer = buffer.cast::<u16>().as_ptr();
    // SAFETY: the buffer is that long; the caller's contract.
    unsafe {
        text.as_ptr().copy_to_nonoverlapping(buffer, text.len());
        to.write(UNICODE_STRING { Length: bytes as u16, MaximumLength: bytes as u16 + 2, Buffer: buffer });
    }
    STATUS_SUCCESS
}

fn text_of(guid: &GUID) -> String {
    let GUID { Data1, Data2, Data3, Data4: [a, b, c, d, e, f, g, h] } = guid;
    format!(
        "{{{Data1:08x}-{Data2:04x}-{Data3:04x}-{a:02x}{b:02x}-{c:02x}{d:02x}{e:02x}{f:02x}{g:02x}{h:02x}}}"
    )
}

fn register(pdo: usize, class: GUID, reference: &[u16]) -> Result<Vec<u16>, NTSTATUS> {
    let device = pnp::name_of(pdo).ok_or(STATUS_INVALID_DEVICE_REQUEST)?;
    if reference.iter().any(|&unit| unit == BACKSLASH || unit == u16::from(b'/')) {
        return Err(STATUS_INVALID_PARAMETER);
    }
    let mut interfaces = INTERFACES.lock();
    let same = |other: &&Interface| other.pdo == pdo && other.class == class && other.reference == reference;
    if let Some(known) = interfaces.iter().find(same) {
        return Ok(known.name());
    }
    if interfaces.len() >= MAX_INTERFACES {
        return Err(STATUS_INSUFFICIENT_RESOURCES);
    }
    let device = utf16::display(&device);
    let device = device.rsplit('\\').next().unwrap_or_default();
    let link = utf16::encode(&format!(r"\??\ROOT#{device}#0000#{}", text_of(&class)));
    let made = Interface { pdo, class, reference: reference.to_vec(), link, enabled_by: 0 };
    let name = made.name();
    interfaces.push(made);
    Ok(name)
}

/// Enables (for `owner`, not 0) or disables an interface.
fn set_state(name: &[u16], owner: usize) -> NTSTATUS {
    let mut interfaces = INTERFACES.lock();
    let Some(index) = interfaces.iter().position(|other| other.is_called(name)) else {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    };
    match (interfaces[index].enabled_by != 0, owner != 0) {
        (true, true) => return STATUS_OBJECT_NAME_EXISTS,
        (false, false) => return STATUS_OBJECT_NAME_NOT_FOUND,
        _ => {}
    }
    let Interface { pdo, class, link, .. } = interfaces[index].clone();
    // Interfaces of one device and class that differ in the reference string share the link.
    let others = interfaces.iter().enumerate();
    let shared = others
        .filter(|(other, _)| *other != index)
        .any(|(_, other)| other.enabled_by != 0 && other.link == link);
    if !shared {
        let device = pnp::name_of(pdo).unwrap_or_default();
        let changed =
            names::with(|names| if owner == 0 { names.unlink(&link) } else { names.link(&link, &device, 0) });
        if let Err(error) = changed {
            return names::status_of(error);
        }
    }
    interfaces[index].enabled_by = owner;
    let name = interfaces[index].name();
    drop(interfaces);
    announce((if owner == 0 { REMOVAL } else { ARRIVAL }, class, name));
    STATUS_SUCCESS
}

/// What a driver left: kinds of findings, and which ones. Told once; the interfaces are disabled, the registrations stay, and so
/// does the driver.
pub fn left_by(driver: usize, range: &Range<u64>) -> Vec<(FindingKind, String, &'static str)> {
    let is_its = |other: &&Interface| range.contains(&(other.enabled_by as u64));
    let enabled: Vec<Vec<u16>> = INTERFACES.lock().iter().filter(is_its).map(Interface::name).collect();
    let mut left = Vec::new();
    for name in enabled {
        let _ = set_state(&name, 0);
        let detail = "still enabled: IoSetDeviceInterfaceState was not called";
        left.push((FindingKind::DeviceInterfaceLeftEnabled, utf16::display(&name), detail));
    }
    for listener in LISTENERS.lock().iter().filter(|listener| listener.driver == driver) {
        let object = format!("notification entry 0x{:x}", Arc::as_ptr(listener).addr());
        let detail = "IoUnregisterPlugPlayNotificationEx was not called: the driver object cannot go, and the image stays";
        left.push((FindingKind::PlugPlayNotificationLeft, object, detail));
    }
    left
}

unsafe extern "win64" fn set_interface_state(call: &Call<2>) -> NTSTATUS {
    let [name, enable] = call.arguments;
    // SAFETY: the caller gives a string.
    let name = unsafe {
        core::ptr::with_exposed_provenance::<UNICODE_STRING>(name).as_ref().map(|name| name.units())
    };
    let Some(name) = name else { return STATUS_INVALID_PARAMETER };
    set_state(name, if enable as BOOLEAN == 0 { 0 } else { call.caller })
}

fn unregister(entry: PVOID) -> NTSTATUS {
    let found = {
        let mut listeners = LISTENERS.lock();
        let index = listeners.iter().position(|other| Arc::as_ptr(other).addr() == entry.addr());
        index.map(|index| listeners.remove(index))
    };
    let Some(listener) = found else { return STATUS_INVALID_PARAMETER };
    listener.wanted.store(false, Ordering::SeqCst);
    let this = thread::current().as_ptr().addr();
    while ![0, this].contains(&listener.calling.load(Ordering::SeqCst)) {
        thread::sleep_ns(100_000);
    }
    ob::dereference(listener.driver);
    STATUS_SUCCESS
}

export! {
    /// *IoRegisterDeviceInterface function (wdm.h)*: at PASSIVE_LEVEL; the name of the interface, which is disabled at first, in pool that
    /// RtlFreeUnicodeString frees. The same name again where it is registered already. STATUS_INVALID_DEVICE_REQUEST for what is no
    /// physical device object.
    pub unsafe extern "win64" fn IoRegisterDeviceInterface(
        pdo: *mut DEVICE_OBJECT,
        class: *const GUID,
        reference: *const UNICODE_STRING,
        name: *mut UNICODE_STRING,
    ) -> NTSTATUS {
        // SAFETY: the caller's strings, and storage for the answer.
        unsafe {
            let reference = reference.as_ref().map_or(&[][..], |reference| reference.units());
            match register(pdo.addr(), *class, reference) {
                Ok(made) => hand_out(&made, name),
                Err(status) => status,
            }
        }
    }

    /// *IoSetDeviceInterfaceState function (wdm.h)*: at PASSIVE_LEVEL; enabled, a symbolic link leads to the device, and who asked for the class
    /// is told. STATUS_OBJECT_NAME_EXISTS where it is enabled already; STATUS_OBJECT_NAME_NOT_FOUND where there is none of that name, or
    /// it is disabled already.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn IoSetDeviceInterfaceState(name: *const UNICODE_STRING, enable: BOOLEAN) -> NTSTATUS {
        with_caller!(set_interface_state)
    }

    /// *IoGetDeviceInterfaces function (wdm.h)*: at PASSIVE_LEVEL; the names of a class, of one device or of all, each with a terminator and
    /// one more behind them, in pool that the caller frees. Disabled ones only on request.
    pub unsafe extern "win64" fn IoGetDeviceInterfaces(
        class: *const GUID,
        pdo: *mut DEVICE_OBJECT,
        flags: u32,
        list: *mut *mut u16,
    ) -> NTSTATUS {
        if !pdo.is_null() && pnp::name_of(pdo.addr()).is_none() {
            return STATUS_INVALID_DEVICE_REQUEST;
        }
        // SAFETY: the caller gives a class.
        let class = unsafe { *class };
        let mut units = Vec::new();
        for interface in INTERFACES.lock().iter() {
            let is_shown = interface.enabled_by != 0 || flags & INCLUDE_DISABLED != 0;
            if interface.class == class && is_shown && (pdo.is_null() || interface.pdo == pdo.addr()) {
                units.extend(interface.name());
                units.push(0);
            }
        }
        units.push(0);
        let Some(buffer) = pool::allocate_zeroed(units.len() * 2, *b"Pp  ") else { return STATUS_INSUFFICIENT_RESOURCES };
        // SAFETY: the buffer is that long; the caller gives storage for the pointer.
        unsafe {
            units.as_ptr().copy_to_nonoverlapping(buffer.cast().as_ptr(), units.len());
            list.write(buffer.cast().as_ptr());
        }
        STATUS_SUCCESS
    }

    /// *IoGetDeviceInterfaceAlias function (wdm.h)*: at PASSIVE_LEVEL; the interface of another class that the same device has with the same
    /// reference string. STATUS_OBJECT_NAME_NOT_FOUND where there is none.
    pub unsafe extern "win64" fn IoGetDeviceInterfaceAlias(
        name: *const UNICODE_STRING,
        class: *const GUID,
        alias: *mut UNICODE_STRING,
    ) -> NTSTATUS {
        // SAFETY: the caller's string and class.
        let (name, class) = unsafe { ((*name).units(), *class) };
        let found = {
            let interfaces = INTERFACES.lock();
            let of = interfaces.iter().find(|other| other.is_called(name));
            let is_alias = |other: &&Interface| {
                other.class == class && of.is_some_and(|of| of.pdo == other.pdo && of.reference == other.reference)
            };
            interfaces.iter().find(is_alias).map(Interface::name)
        };
        // SAFETY: the caller gives storage for the name.
        found.map_or(STATUS_OBJECT_NAME_NOT_FOUND, |found| unsafe { hand_out(&found, alias) })
    }

    /// *IoRegisterPlugPlayNotification function (wdm.h)*: at PASSIVE_LEVEL; the routine is told of interfaces of a class that come and go,
    /// and on request of those that are there, before this returns. Of hardware profiles and target devices nothing changes here.
    /// The driver stays until it unregisters.
    pub unsafe extern "win64" fn IoRegisterPlugPlayNotification(
        category: u32,
        flags: u32,
        data: PVOID,
        driver: *mut DRIVER_OBJECT,
        callback: PVOID,
        context: PVOID,
        entry: *mut PVOID,
    ) -> NTSTATUS {
        let needs_data = matches!(category, INTERFACE_CHANGE | TARGET_CHANGE);
        let exists = matches!(category, PROFILE_CHANGE | INTERFACE_CHANGE | TARGET_CHANGE);
        if !exists || (needs_data && data.is_null()) || entry.is_null() || callback.is_null() {
            return STATUS_INVALID_PARAMETER;
        }
        if !ob::reference(driver.addr()) {
            return STATUS_INVALID_PARAMETER;
        }
        // SAFETY: the caller gives a routine of this type; the data of this category are a class; storage for the entry.
        let listener = unsafe {
            let class = (category == INTERFACE_CHANGE).then(|| data.cast::<GUID>().read_unaligned());
            let listener = Arc::new(Listener {
                driver: driver.addr(),
                callback: core::mem::transmute::<PVOID, Callback>(callback),
                context: context.expose_provenance(),
                class,
                wanted: AtomicBool::new(true),
                calling: AtomicUsize::new(0),
            });
            entry.write(Arc::as_ptr(&listener).cast_mut().cast());
            listener
        };
        LISTENERS.lock().push(listener.clone());
        if let Some(class) = listener.class.filter(|_| flags & INCLUDE_EXISTING != 0) {
            let is_there = |other: &&Interface| other.class == class && other.enabled_by != 0;
            let there: Vec<Vec<u16>> = INTERFACES.lock().iter().filter(is_there).map(Interface::name).collect();
            there.iter().for_each(|name| listener.tell(ARRIVAL, class, name));
        }
        STATUS_SUCCESS
    }

    /// *IoUnregisterPlugPlayNotification function (wdm.h)*: when it returns the routine runs nowhere.
    pub unsafe extern "win64" fn IoUnregisterPlugPlayNotification(entry: PVOID) -> NTSTATUS {
        unregister(entry)
    }

    /// *IoUnregisterPlugPlayNotificationEx function (wdm.h)*: the same.
    pub unsafe extern "win64" fn IoUnregisterPlugPlayNotificationEx(entry: PVOID) -> NTSTATUS {
        unregister(entry)
    }
}

kernel_test! {
    /// *IoRegisterDeviceInterface function (wdm.h)*: for devices of the tree alone.
    fn only_devices_of_the_tree_have_interfaces() {
        check!(register(0x1230, ARRIVAL, &[]) == Err(STATUS_INVALID_DEVICE_REQUEST));
        check!(set_state(&utf16::encode(r"\??\ROOT#NOBODY"), 1) == STATUS_OBJECT_NAME_NOT_FOUND);
        check!(text_of(&ARRIVAL) == "{cb3a4004-46f0-11d0-b08f-00609713053f}");
    }
}

//! Object types: what kind an object is of, and what drivers know each kind by.
//!
//! `*PsThreadType`, `*IoFileObjectType` and their like are pointers that a driver hands to the routines that take a
//! type, and never looks behind. Each leads to a record of its own here.

use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::ldr::export::export_data;
use crate::nt::PVOID;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// `ExCreateCallback`'s.
    Callback,
    /// A device object.
    Device,
    /// A directory of the name space that somebody has open.
    Directory,
    /// A driver object.
    Driver,
    /// An event with a handle or a name.
    Event,
    /// A file object.
    File,
    /// A registry key that somebody has open.
    Key,
    /// A process: the system's.
    Process,
    /// Memory that can be made to appear.
    Section,
    /// A semaphore.
    Semaphore,
    /// A symbolic link that somebody has open.
    SymbolicLink,
    /// A thread.
    Thread,
    /// A timer with a handle.
    Timer,
    /// A token: the system's.
    Token,
}

const KINDS: usize = Kind::Token as usize + 1;

/// What stands behind each type's pointer. Nobody looks into it on purpose; but mingw-w64's headers declare the variables that
/// lead there in such a way that a driver follows one pointer too many. On Windows it arrives where it wanted to all the same,
/// since a type begins with a list that is empty and so leads to itself; here too.
struct Type {
    list: AtomicPtr<Type>,
    _rest: [u64; 31],
}

static TYPES: [Type; KINDS] =
    [const { Type { list: AtomicPtr::new(ptr::null_mut()), _rest: [0; 31] } }; KINDS];

/// Makes the types lead to themselves. Before any driver is loaded.
pub fn init() {
    for kind in &TYPES {
        kind.list.store(ptr::from_ref(kind).cast_mut(), Ordering::Relaxed);
    }
}

impl Kind {
    /// The `POBJECT_TYPE` of this kind.
    pub fn object_type(self) -> PVOID {
        (&raw const TYPES[self as usize]).cast_mut().cast()
    }

    /// Whether a driver that asks for `wanted` may have an object of this kind; null asks for any.
    pub fn is(self, wanted: PVOID) -> bool {
        wanted.is_null() || wanted == self.object_type()
    }
}

const fn pointer(kind: Kind) -> AtomicPtr<Type> {
    AtomicPtr::new((&raw const TYPES[kind as usize]).cast_mut())
}

// What drivers import leads to the pointer: `POBJECT_TYPE *`.
static KEY: AtomicPtr<Type> = pointer(Kind::Key);
static EVENT: AtomicPtr<Type> = pointer(Kind::Event);
static SECTION: AtomicPtr<Type> = pointer(Kind::Section);
static SEMAPHORE: AtomicPtr<Type> = pointer(Kind::Semaphore);
static DEVICE: AtomicPtr<Type> = pointer(Kind::Device);
static DRIVER: AtomicPtr<Type> = pointer(Kind::Driver);
static FILE: AtomicPtr<Type> = pointer(Kind::File);
static PROCESS: AtomicPtr<Type> = pointer(Kind::Process);
static THREAD: AtomicPtr<Type> = pointer(Kind::Thread);
static TOKEN: AtomicPtr<Type> = pointer(Kind::Token);

export_data! {
    CmKeyObjectType => KEY;
    ExEventObjectType => EVENT;
    ExSemaphoreObjectType => SEMAPHORE;
    IoDeviceObjectType => DEVICE;
    IoDriverObjectType => DRIVER;
    IoFileObjectType => FILE;
    MmSectionObjectType => SECTION;
    PsProcessType => PROCESS;
    PsThreadType => THREAD;
    SeTokenObjectType => TOKEN;
}

/// No type at all.
pub const ANY: PVOID = ptr::null_mut();

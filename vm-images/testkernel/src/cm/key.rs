//! Keys behind handles: what drivers call to read their configuration.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use squall_testkernel_pure::registry::{KeyId, Value};

use super::callback::{self, Operation};
use super::{status_of, with};
use crate::ldr::export::export;
use crate::nt::{
    HANDLE, KEY_VALUE_BASIC_INFORMATION_CLASS, KEY_VALUE_FULL_INFORMATION_ALIGN64_CLASS,
    KEY_VALUE_FULL_INFORMATION_CLASS, KEY_VALUE_PARTIAL_INFORMATION_ALIGN64_CLASS,
    KEY_VALUE_PARTIAL_INFORMATION_CLASS, NTSTATUS, OBJECT_ATTRIBUTES, PVOID, REG_CREATED_NEW_KEY,
    REG_OPENED_EXISTING_KEY, STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_HANDLE,
    STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_NOT_FOUND, STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS,
    UNICODE_STRING,
};
use crate::ob::types::Kind;
use crate::ob::{self, handle};
use crate::selftest::{check, kernel_test};

/// A key as an object: what its handles stand for. Each opening of a key makes one.
struct KeyObject {
    id: KeyId,
    /// Its path, once somebody asked for it.
    path: AtomicPtr<Path>,
}

/// A path as drivers are told of it.
struct Path {
    string: UNICODE_STRING,
    _units: Vec<u16>,
}

impl Drop for KeyObject {
    fn drop(&mut self) {
        let path = *self.path.get_mut();
        if !path.is_null() {
            // SAFETY: made as a box by `path_of`, and told to nobody who still refers to the key.
            drop(unsafe { Box::from_raw(path) });
        }
    }
}

fn delete(address: usize) {
    // SAFETY: made as a box by `object_for`, and nobody refers to it any more.
    drop(unsafe { Box::from_raw(ptr::with_exposed_provenance_mut::<KeyObject>(address)) });
}

/// An object for a key, with one reference.
pub fn object_for(id: KeyId) -> usize {
    let object =
        Box::into_raw(Box::new(KeyObject { id, path: AtomicPtr::new(ptr::null_mut()) })).expose_provenance();
    ob::insert(object, Kind::Key, delete);
    object
}

/// The key that an object is for, if it is one; the caller refers to it.
pub fn of_object(object: usize) -> Option<KeyId> {
    let is_key = ob::kind(object) == Some(Kind::Key);
    // SAFETY: keys' objects are these, and the caller's reference keeps it.
    is_key.then(|| unsafe { (*ptr::with_exposed_provenance::<KeyObject>(object)).id })
}

/// The path of the key that an object is for; it stays as long as the object does.
pub fn path_of(object: usize) -> Result<*const UNICODE_STRING, NTSTATUS> {
    let id = of_object(object).ok_or(STATUS_INVALID_PARAMETER)?;
    let path = with(|registry| registry.describe(id)).map_err(status_of)?.path;
    // SAFETY: as above.
    let object = unsafe { &*ptr::with_exposed_provenance::<KeyObject>(object) };
    let known = object.path.load(Ordering::Acquire);
    let mut units = path;
    let bytes = (units.len() * 2) as u16;
    let string = UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: units.as_mut_ptr() };
    let told = if known.is_null() {
        let made = Box::into_raw(Box::new(Path { string, _units: units }));
        match object.path.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => made,
            Err(theirs) => {
                // SAFETY: made above, and known to nobody else.
                drop(unsafe { Box::from_raw(made) });
                theirs
            }
        }
    } else {
        known
    };
    // SAFETY: stays as long as the object does; a field of it.
    Ok(unsafe { &raw const (*told).string })
}

/// A key that is being used: an object, referred to meanwhile.
pub struct Opened {
    /// Which key.
    pub id: KeyId,
    /// Its object, which whoever filters the registry is told of.
    pub object: Cell<usize>,
}

impl Opened {
    /// The key behind a handle.
    pub fn of(key: HANDLE) -> Result<Self, NTSTATUS> {
        let (object, _) = handle::object(key)?;
        ob::reference_of_type(object, Kind::Key.object_type())?;
        let id = of_object(object).ok_or(STATUS_OBJECT_TYPE_MISMATCH)?;
        Ok(Self { id, object: Cell::new(object) })
    }

    /// A key that has no handle.
    pub fn new(id: KeyId) -> Self {
        Self { id, object: Cell::new(object_for(id)) }
    }

    fn address(&self) -> u64 {
        self.object.get() as u64
    }

    /// Does something to the key, with whoever filters the registry told: `rest` is what follows the object in the operation's
    /// structure, its last three words left out.
    ///
    /// # Safety
    /// As of [`callback::around`].
    pub unsafe fn around<const N: usize>(
        &self,
        operation: Operation,
        rest: &[u64],
        work: impl FnOnce() -> NTSTATUS,
    ) -> NTSTATUS {
        let mut words = [0; N];
        words[0] = self.address();
        words[1..=rest.len()].copy_from_slice(rest);
        // SAFETY: the caller's contract.
        unsafe { callback::around(operation, &self.object, words, work) }
    }

    /// Sets a value.
    ///
    /// # Safety
    /// `data` must lead to so many bytes, or be null.
    pub unsafe fn set_value(
        &self,
        name: *const UNICODE_STRING,
        kind: u32,
        data: PVOID,
        bytes: u32,
    ) -> NTSTATUS {
        let words = [
            name.expose_provenance() as u64,
            u64::from(kind) << 32,
            data.expose_provenance() as u64,
            bytes.into(),
        ];
        // SAFETY: the caller's; the data are copied before the registry is locked.
        unsafe {
            self.around::<8>(callback::SET_VALUE, &words, || {
                let name = (*name).units().to_vec();
                let data = if bytes == 0 || data.is_null() {
                    Vec::new()
                } else {
                    core::slice::from_raw_parts(data.cast::<u8>(), bytes as usize).to_vec()
                };
                match with(|registry| registry.set_value(self.id, &name, kind, &data)) {
                    Ok(()) => STATUS_SUCCESS,
                    Err(error) => status_of(error),
                }
            })
        }
    }

    /// Deletes a value.
    ///
    /// # Safety
    /// `name` must be valid.
    pub unsafe fn delete_value(&self, name: *const UNICODE_STRING) -> NTSTATUS {
        // SAFETY: the caller's.
        unsafe {
            self.around::<5>(callback::DELETE_VALUE, &[name.expose_provenance() as u64], || {
                let (id, name) = (self.id, (*name).units());
                match with(|registry| registry.check(id).map(|()| registry.delete_value(id, name))) {
                    Ok(true) => STATUS_SUCCESS,
                    Ok(false) => STATUS_OBJECT_NAME_NOT_FOUND,
                    Err(error) => status_of(error),
                }
            })
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        ob::dereference(self.object.get());
    }
}

/// The key behind a handle.
pub fn of_handle(key: HANDLE) -> Result<KeyId, NTSTATUS> {
    Opened::of(key).map(|opened| opened.id)
}

/// Closes a handle of a key's with `work`.
pub fn closing(object: usize, work: impl FnOnce() -> NTSTATUS) -> NTSTATUS {
    // Told of the last handle only, and of an object that is there until then.
    if handle::count_for(object) > 1 || !ob::reference(object) {
        return work();
    }
    // SAFETY: REG_KEY_HANDLE_CLOSE_INFORMATION: Object, CallContext, ObjectContext, Reserved.
    let status =
        unsafe { callback::around(callback::CLOSE, &Cell::new(object), [object as u64, 0, 0, 0], work) };
    ob::dereference(object);
    status
}

/// What is asked for of a key that is to be opened or made.
pub struct Wanted {
    /// `OBJECT_ATTRIBUTES`.
    pub attributes: *const OBJECT_ATTRIBUTES,
    /// Rights.
    pub access: u32,
    /// The class of a new key, or null.
    pub class: *const UNICODE_STRING,
    /// `REG_OPTION_*`.
    pub options: u32,
    /// Where it is told whether it is new, or null.
    pub disposition: *mut u32,
}

/// Generic rights, which stand for others, made into those; the most that is allowed is all.
fn specific(access: u32) -> u32 {
    let generic = [(0x8000_0000, 0x2_0019), (0x4000_0000, 0x2_0006), (0x1200_0000, 0xF_003F)];
    let rights = generic.iter().filter(|(bits, _)| access & bits != 0).map(|(_, rights)| rights);
    rights.fold(access & 0x01FF_FFFF, |all, rights| all | rights)
}

/// Opens a key or makes it, as `find` does, and gives a handle.
///
/// # Safety
/// `wanted` must be valid, and `to` have room for the handle.
unsafe fn handle_for(
    operation: Operation,
    wanted: &Wanted,
    to: *mut HANDLE,
    find: impl FnOnce(Option<KeyId>, &[u16]) -> Result<KeyId, NTSTATUS>,
) -> NTSTATUS {
    // SAFETY: the caller's.
    let (root, name) = match unsafe { path(wanted.attributes) } {
        Ok(found) => found,
        Err(status) => return status,
    };
    let object = Cell::new(0);
    // Where a filter that does it itself leaves the object.
    let mut result: usize = 0;
    let address = |of: usize| of as u64;
    // SAFETY: as above.
    let (name_at, security) =
        unsafe { ((*wanted.attributes).ObjectName, (*wanted.attributes).SecurityDescriptor) };
    let words = [
        address(name_at.expose_provenance()),
        root.as_ref().map_or(0, Opened::address),
        address(Kind::Key.object_type().expose_provenance()),
        wanted.options.into(),
        address(wanted.class.expose_provenance()),
        address(security.expose_provenance()),
        0,
        u64::from(wanted.access) | u64::from(wanted.access) << 32,
        address(wanted.disposition.expose_provenance()),
        address((&raw mut result).expose_provenance()),
        0,
        0,
        0,
        0,
    ];
    // SAFETY: everything that the words lead to is there until the end.
    let status = unsafe {
        callback::around(operation, &object, words, || match find(root.as_ref().map(|root| root.id), name) {
            Ok(id) => {
                object.set(object_for(id));
                STATUS_SUCCESS
            }
            Err(status) => status,
        })
    };
    // SAFETY: a local that filters may have written.
    let theirs = unsafe { (&raw const result).read_volatile() };
    let found = if object.get() == 0 { theirs } else { object.get() };
    if !status.is_success() {
        if object.get() != 0 {
            ob::dereference(found);
        }
        return status;
    }
    if of_object(found).is_none() {
        return STATUS_INVALID_PARAMETER;
    }
    match handle::create_with(found, specific(wanted.access)) {
        Ok(handle) => {
            // SAFETY: the caller gives storage for the handle.
            unsafe { to.write(handle) };
            status
        }
        Err(status) => {
            ob::dereference(found);
            status
        }
    }
}

/// Root and path that object attributes name.
///
/// # Safety
/// `attributes` must lead to valid attributes with a valid name.
unsafe fn path<'a>(attributes: *const OBJECT_ATTRIBUTES) -> Result<(Option<Opened>, &'a [u16]), NTSTATUS> {
    // SAFETY: the caller's contract.
    let attributes = unsafe { attributes.as_ref() }.ok_or(STATUS_INVALID_PARAMETER)?;
    if attributes.Length as usize != size_of::<OBJECT_ATTRIBUTES>() {
        return Err(STATUS_INVALID_PARAMETER);
    }
    let root =
        if attributes.RootDirectory.is_null() { None } else { Some(Opened::of(attributes.RootDirectory)?) };
    // SAFETY: the caller's contract.
    let name = unsafe { attributes.ObjectName.as_ref() }.ok_or(STATUS_INVALID_PARAMETER)?;
    // SAFETY: the caller's contract.
    Ok((root, unsafe { name.units() }))
}

/// A value in the form that an information class asks for: a fixed part and what follows it.
pub(super) struct Information {
    /// Words of the fixed part.
    header: [u32; 5],
    /// Bytes of the fixed part.
    fixed: usize,
    /// Where the name goes, if it does.
    name: Option<usize>,
    /// Where the data go, if they do.
    data: Option<usize>,
    /// Bytes in all.
    total: usize,
}

impl Information {
    /// `value` for `class`; none where there is no such class.
    pub(super) fn new(class: u32, value: &Value) -> Option<Self> {
        let (name, data) = (value.name.len() * 2, value.data.len());
        let (kind, data_length, name_length) = (value.kind, data as u32, name as u32);
        Some(match class {
            // TitleIndex, Type, NameLength, Name.
            KEY_VALUE_BASIC_INFORMATION_CLASS => Self {
                header: [0, kind, name_length, 0, 0],
                fixed: 12,
                name: Some(12),
                data: None,
                total: 12 + name,
            },
            // TitleIndex, Type, DataOffset, DataLength, NameLength, Name, and the data on an 8-byte boundary.
            KEY_VALUE_FULL_INFORMATION_CLASS | KEY_VALUE_FULL_INFORMATION_ALIGN64_CLASS => {
                let at = (20 + name).next_multiple_of(8);
                Self {
                    header: [0, kind, at as u32, data_length, name_length],
                    fixed: 20,
                    name: Some(20),
                    data: Some(at),
                    total: at + data,
                }
            }
            // TitleIndex, Type, DataLength, Data.
            KEY_VALUE_PARTIAL_INFORMATION_CLASS => Self {
                header: [0, kind, data_length, 0, 0],
                fixed: 12,
                name: None,
                data: Some(12),
                total: 12 + data,
            },
            // Type, DataLength, Data, which lies on an 8-byte boundary where the structure does.
            KEY_VALUE_PARTIAL_INFORMATION_ALIGN64_CLASS => Self {
                header: [kind, data_length, 0, 0, 0],
                fixed: 8,
                name: None,
                data: Some(8),
                total: 8 + data,
            },
            _ => return None,
        })
    }

    /// Hands the value over, as much as fits, and says what it takes.
    ///
    /// # Safety
    /// `to` must lead to `length` bytes, `result_length` to a number.
    pub(super) unsafe fn answer(
        &self,
        value: &Value,
        to: PVOID,
        length: u32,
        result_length: *mut u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's.
        unsafe { result_length.write(self.total as u32) };
        let room = length as usize;
        if room < self.fixed {
            return STATUS_BUFFER_TOO_SMALL;
        }
        // SAFETY: the caller's.
        unsafe { self.write(value, to.cast(), room) };
        if room < self.total { STATUS_BUFFER_OVERFLOW } else { STATUS_SUCCESS }
    }

    /// Writes as much as `room` bytes at `to` hold.
    ///
    /// # Safety
    /// `to` must lead to `room` bytes.
    unsafe fn write(&self, value: &Value, to: *mut u8, room: usize) {
        let put = |at: usize, bytes: &[u8]| {
            let fits = room.saturating_sub(at).min(bytes.len());
            // SAFETY: `at + fits` is within the room.
            unsafe { bytes.as_ptr().copy_to_nonoverlapping(to.wrapping_add(at), fits) };
        };
        for (index, word) in self.header.iter().take(self.fixed / 4).enumerate() {
            put(index * 4, &word.to_le_bytes());
        }
        if let Some(at) = self.name {
            value.name.iter().enumerate().for_each(|(index, unit)| put(at + 2 * index, &unit.to_le_bytes()));
        }
        if let Some(at) = self.data {
            put(at, &value.data);
        }
    }
}

export! {
    /// *ZwOpenKey function (wdm.h)*: access rights are not checked, the guest has no security.
    pub unsafe extern "win64" fn ZwOpenKey(
        key: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
    ) -> NTSTATUS {
        let (class, disposition) = (ptr::null(), ptr::null_mut());
        let wanted = Wanted { attributes, access, class, options: 0, disposition };
        // SAFETY: the caller gives valid attributes and storage for the handle.
        unsafe {
            handle_for(callback::OPEN_KEY, &wanted, key, |root, path| {
                with(|registry| registry.open(root, path)).map_err(status_of)
            })
        }
    }

    /// *ZwCreateKey function (wdm.h)*: opens the key, or makes it: STATUS_OBJECT_NAME_NOT_FOUND where the key above it does not
    /// exist.
    pub unsafe extern "win64" fn ZwCreateKey(
        key: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        _title_index: u32,
        class: *const UNICODE_STRING,
        options: u32,
        disposition: *mut u32,
    ) -> NTSTATUS {
        let wanted = Wanted { attributes, access, class, options, disposition };
        // SAFETY: the caller gives valid attributes, a class or null, and storage for the handle, and for the disposition or null.
        unsafe {
            handle_for(callback::CREATE_KEY, &wanted, key, |root, path| {
                let class = class.as_ref().map(|class| class.units());
                let made = with(|registry| {
                    let (id, created) = registry.create_in_existing(root, path)?;
                    match class {
                        Some(class) if created => registry.set_class(id, class)?,
                        _ => {}
                    }
                    Ok((id, created))
                });
                let (id, created) = made.map_err(status_of)?;
                if let Some(disposition) = disposition.as_mut() {
                    *disposition = if created { REG_CREATED_NEW_KEY } else { REG_OPENED_EXISTING_KEY };
                }
                Ok(id)
            })
        }
    }

    /// *ZwQueryValueKey function (wdm.h)*: basic, full and partial information, the latter two aligned or not; ResultLength says what it takes.
    pub unsafe extern "win64" fn ZwQueryValueKey(
        key: HANDLE,
        name: *const UNICODE_STRING,
        class: u32,
        information: PVOID,
        length: u32,
        result_length: *mut u32,
    ) -> NTSTATUS {
        let key = match Opened::of(key) {
            Ok(key) => key,
            Err(status) => return status,
        };
        let words = [
            name.expose_provenance() as u64,
            class.into(),
            information.expose_provenance() as u64,
            length.into(),
            result_length.expose_provenance() as u64,
        ];
        // SAFETY: the caller gives a valid name, a buffer of that length, and storage for the length.
        unsafe {
            key.around::<9>(callback::QUERY_VALUE, &words, || {
                let (id, name) = (key.id, (*name).units());
                // A copy: the caller's buffer may fault, and must not do so under the registry's lock.
                match with(|registry| registry.check(id).map(|()| registry.value(id, name).cloned())) {
                    Ok(Some(value)) => match Information::new(class, &value) {
                        Some(form) => form.answer(&value, information, length, result_length),
                        None => STATUS_INVALID_PARAMETER,
                    },
                    Ok(None) => STATUS_OBJECT_NAME_NOT_FOUND,
                    Err(error) => status_of(error),
                }
            })
        }
    }

    /// *ZwSetValueKey function (wdm.h)*.
    pub unsafe extern "win64" fn ZwSetValueKey(
        key: HANDLE,
        name: *const UNICODE_STRING,
        _title_index: u32,
        kind: u32,
        data: PVOID,
        bytes: u32,
    ) -> NTSTATUS {
        match Opened::of(key) {
            // SAFETY: the caller gives a valid name and that many bytes.
            Ok(key) => unsafe { key.set_value(name, kind, data, bytes) },
            Err(status) => status,
        }
    }
}

kernel_test! {
    fn a_value_is_set_and_read_back_through_handles() {
        let path: alloc::vec::Vec<u16> = r"\Registry\Machine\Selftest".encode_utf16().collect();
        let name: alloc::vec::Vec<u16> = "Number".encode_utf16().collect();
        let counted = |units: &[u16]| UNICODE_STRING {
            Length: (units.len() * 2) as u16,
            MaximumLength: (units.len() * 2) as u16,
            Buffer: units.as_ptr().cast_mut(),
        };
        let (mut path, mut name) = (counted(&path), counted(&name));
        let attributes = OBJECT_ATTRIBUTES {
            Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
            RootDirectory: ptr::null_mut(),
            ObjectName: &raw mut path,
            Attributes: 0x40,
            SecurityDescriptor: ptr::null_mut(),
            SecurityQualityOfService: ptr::null_mut(),
        };
        let mut key = ptr::null_mut();
        let mut disposition = 0;
        let mut number = 0x300u32;
        let mut buffer = [0u32; 8];
        let mut length = 0;
        // SAFETY: every pointer leads to a local of the right kind.
        unsafe {
            check!(ZwOpenKey(&raw mut key, 0, &raw const attributes) == STATUS_OBJECT_NAME_NOT_FOUND);
            let made = ZwCreateKey(
                &raw mut key, 0, &raw const attributes, 0, ptr::null(), 0, &raw mut disposition,
            );
            check!(made == STATUS_SUCCESS && disposition == REG_CREATED_NEW_KEY);
            let data = (&raw mut number).cast();
            check!(ZwSetValueKey(key, &raw mut name, 0, 4, data, 4) == STATUS_SUCCESS);
            let class = KEY_VALUE_PARTIAL_INFORMATION_CLASS;
            let to = (&raw mut buffer).cast();
            let mut query = |room| ZwQueryValueKey(key, &raw mut name, class, to, room, &raw mut length);
            check!(query(8) == STATUS_BUFFER_TOO_SMALL);
            check!(query(12) == STATUS_BUFFER_OVERFLOW);
            check!(query(32) == STATUS_SUCCESS);
            check!(length == 16 && buffer[1..4] == [4, 4, 0x300]);
            check!(handle::close(key) == STATUS_SUCCESS && handle::close(key) == STATUS_INVALID_HANDLE);
        }
    }
}

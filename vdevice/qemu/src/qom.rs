//! Types and properties of QEMU's object model.

use std::ffi::CStr;
use std::ptr::{null, null_mut};

use crate::abi::{Object, ObjectClass, TypeInfo};
use crate::symbols::{Accessor, Realize, qemu};

/// What a device type of ours is.
pub(crate) struct DeviceType {
    pub(crate) name: &'static CStr,
    pub(crate) parent: &'static CStr,
    pub(crate) class_init: unsafe extern "C" fn(*mut ObjectClass, *mut std::ffi::c_void),
    pub(crate) instance_init: unsafe extern "C" fn(*mut Object),
    pub(crate) instance_finalize: unsafe extern "C" fn(*mut Object),
}

/// A property of a class of ours.
pub(crate) struct Property {
    pub(crate) name: &'static CStr,
    pub(crate) kind: &'static CStr,
    pub(crate) description: &'static CStr,
    pub(crate) get: Option<Accessor>,
    pub(crate) set: Option<Accessor>,
}

/// Makes a type known to QEMU, for good.
pub(crate) fn register(device_type: &DeviceType) {
    let info = Box::leak(Box::new(TypeInfo {
        name: device_type.name.as_ptr(),
        parent: device_type.parent.as_ptr(),
        instance_size: 0,
        instance_align: 0,
        instance_init: Some(device_type.instance_init),
        instance_post_init: None,
        instance_finalize: Some(device_type.instance_finalize),
        is_abstract: false,
        class_size: 0,
        class_init: Some(device_type.class_init),
        class_base_init: None,
        class_data: null(),
        interfaces: null(),
    }));
    // SAFETY: the information, its names and its functions live as long as the process; the parent is looked
    // up by QEMU when the first object is made.
    unsafe { (qemu().type_register_static)(info) };
}

/// Adds a property to a class.
///
/// # Safety
/// Called from the class's `class_init`, with its class.
pub(crate) unsafe fn add_property(class: *mut ObjectClass, property: &Property) {
    let Property { name, kind, description, get, set } = *property;
    let add = qemu().object_class_property_add;
    // SAFETY: by the caller's word; QEMU copies the strings.
    unsafe { add(class, name.as_ptr(), kind.as_ptr(), get, set, null(), null_mut()) };
    // SAFETY: by the caller's word; the property has just been added.
    unsafe { (qemu().object_class_property_set_description)(class, name.as_ptr(), description.as_ptr()) };
}

/// Hooks a class's realize and returns the parent's, which may be none, and its reset.
///
/// # Safety
/// As for [`add_property`]; the class is that of a device.
pub(crate) unsafe fn hook_device(
    class: *mut ObjectClass,
    realize: Realize,
    reset: unsafe extern "C" fn(*mut Object),
) -> Option<Realize> {
    let mut parent: Option<Realize> = None;
    // SAFETY: by the caller's word; the parent's function, or null, is stored through the pointer.
    unsafe { (qemu().device_class_set_parent_realize)(class, realize, &raw mut parent) };
    // SAFETY: by the caller's word.
    unsafe { (qemu().device_class_set_legacy_reset)(class, reset) };
    parent
}

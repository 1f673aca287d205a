//! Types and properties of QEMU's object model.

use std::ffi::{CStr, c_char};
use std::ptr::{null, null_mut};

use crate::abi::{Object, ObjectClass, TypeInfo};
use crate::symbols::{Accessor, Realize, Unrealize, qemu};
use crate::{registry, watch};

/// What a device type of ours is.
pub(crate) struct DeviceType {
    pub(crate) name: &'static CStr,
    pub(crate) parent: &'static CStr,
    /// What its instances can also be used as.
    pub(crate) interfaces: &'static [&'static CStr],
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

/// What a class of ours does in place of its parent's.
pub(crate) struct Hooks {
    pub(crate) realize: Realize,
    /// None for a device that is never unplugged.
    pub(crate) unrealize: Option<Unrealize>,
}

/// What the parent does, where it does anything.
pub(crate) struct Hooked {
    pub(crate) realize: Option<Realize>,
    pub(crate) unrealize: Option<Unrealize>,
}

/// Makes a type known to QEMU, for good.
pub(crate) fn register(device_type: &DeviceType) {
    // `InterfaceInfo` is a name, and a list of them ends with none.
    let names = device_type.interfaces.iter().map(|name| name.as_ptr());
    let interfaces: Vec<*const c_char> = names.chain([null()]).collect();
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
        interfaces: interfaces.leak().as_ptr().cast(),
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

/// Hooks a class, and returns what its parent does.
///
/// # Safety
/// As for [`add_property`]; the class is that of a device.
pub(crate) unsafe fn hook_device(class: *mut ObjectClass, hooks: Hooks) -> Hooked {
    let mut parent = Hooked { realize: None, unrealize: None };
    let place = &raw mut parent.realize;
    // SAFETY: by the caller's word; the parent's function, or null, is stored through the pointer.
    unsafe { (qemu().device_class_set_parent_realize)(class, hooks.realize, place) };
    if let Some(unrealize) = hooks.unrealize {
        let place = &raw mut parent.unrealize;
        // SAFETY: as above.
        unsafe { (qemu().device_class_set_parent_unrealize)(class, unrealize, place) };
    }
    // SAFETY: by the caller's word.
    unsafe { (qemu().device_class_set_legacy_reset)(class, reset) };
    parent
}

/// The machine is reset: the same for every type of ours.
unsafe extern "C" fn reset(object: *mut Object) {
    if let Some(device) = registry::device_of(object) {
        device.reset();
    }
    watch::release();
}

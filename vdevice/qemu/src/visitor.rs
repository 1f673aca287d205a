//! Values on their way in and out of properties.
//!
//! QEMU hands a property accessor a *visitor*, which is either reading what the user gave or collecting what
//! is shown. The same call serves both ways, so the accessor must know which way it goes: getters here call
//! `show_`, setters `take_`.

use std::ffi::{CStr, CString, c_char};
use std::ptr::null_mut;

use crate::abi::{Error, Visitor};
use crate::symbols::qemu;

/// The value of one access to one property.
pub(crate) struct Value {
    visitor: *mut Visitor,
    name: *const c_char,
    errp: *mut *mut Error,
}

impl Value {
    /// # Safety
    /// The pointers are those that QEMU gave to the accessor that is running, and the value does not outlive
    /// it.
    pub(crate) unsafe fn new(visitor: *mut Visitor, name: *const c_char, errp: *mut *mut Error) -> Self {
        Self { visitor, name, errp }
    }

    /// Where a refusal goes.
    pub(crate) fn errp(&self) -> *mut *mut Error {
        self.errp
    }

    /// Reads the truth given, or shows the one passed. `None` if QEMU has raised an error.
    pub(crate) fn bool(&self, mut truth: bool) -> Option<bool> {
        // SAFETY: by the word given to `new`; the truth outlives the call, and QEMU's `bool` is C's.
        let ok = unsafe { (qemu().visit_type_bool)(self.visitor, self.name, &raw mut truth, self.errp) };
        ok.then_some(truth)
    }

    /// Reads the number given, or shows the one passed. `None` if QEMU has raised an error.
    pub(crate) fn u32(&self, mut number: u32) -> Option<u32> {
        // SAFETY: by the word given to `new`; the number outlives the call.
        let ok = unsafe { (qemu().visit_type_uint32)(self.visitor, self.name, &raw mut number, self.errp) };
        ok.then_some(number)
    }

    /// Reads the number given, or shows the one passed. `None` if QEMU has raised an error.
    pub(crate) fn u64(&self, mut number: u64) -> Option<u64> {
        // SAFETY: by the word given to `new`; the number outlives the call.
        let ok = unsafe { (qemu().visit_type_uint64)(self.visitor, self.name, &raw mut number, self.errp) };
        ok.then_some(number)
    }

    /// Shows a text.
    pub(crate) fn show_text(&self, text: &str) {
        let text = CString::new(text).unwrap_or_default();
        let mut pointer = text.as_ptr().cast_mut();
        // SAFETY: by the word given to `new`; a visitor that collects copies the text and writes to neither.
        unsafe { (qemu().visit_type_str)(self.visitor, self.name, &raw mut pointer, self.errp) };
    }

    /// Reads the text given. `None` if QEMU has raised an error.
    pub(crate) fn take_text(&self) -> Option<String> {
        let mut pointer: *mut c_char = null_mut();
        // SAFETY: by the word given to `new`; the visitor stores a new string through the pointer.
        let ok = unsafe { (qemu().visit_type_str)(self.visitor, self.name, &raw mut pointer, self.errp) };
        if !ok || pointer.is_null() {
            return None;
        }
        // SAFETY: a NUL-terminated string of QEMU's, ours since the visit.
        let text = unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned();
        // SAFETY: allocated by GLib, ours, and not used again.
        unsafe { (qemu().g_free)(pointer.cast()) };
        Some(text)
    }
}

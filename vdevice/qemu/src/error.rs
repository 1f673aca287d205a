//! Refusals in QEMU's own way: a `Error**` that the caller of a property or of realize looks at.

use std::ffi::CString;
use std::fmt::Display;
use std::ptr::null_mut;

use crate::abi::Error;
use crate::symbols::qemu;

/// Raises an error with one line of text. QEMU lives on, and whoever asked gets the text.
///
/// # Safety
/// `errp` is what QEMU gave the function that fails, which has raised no other error.
pub(crate) unsafe fn raise(errp: *mut *mut Error, text: impl Display) {
    let one_line: String = text.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = CString::new(one_line).unwrap_or_default();
    let (file, function) = (c"squall-vdevice", c"raise");
    // SAFETY: by the caller's word for errp; every string ends in a NUL, and "%s" consumes exactly one.
    unsafe {
        (qemu().error_setg_internal)(
            errp,
            file.as_ptr(),
            0,
            function.as_ptr(),
            c"%s".as_ptr(),
            text.as_ptr(),
        );
    }
}

/// Calls `call` with a place for an error; `false` if it left one there, which is then `errp`'s.
///
/// # Safety
/// As for [`raise`].
pub(crate) unsafe fn propagating(errp: *mut *mut Error, call: impl FnOnce(*mut *mut Error)) -> bool {
    let mut local: *mut Error = null_mut();
    call(&raw mut local);
    if local.is_null() {
        return true;
    }
    // SAFETY: by the caller's word for errp; the local error is moved, and not used again.
    unsafe { (qemu().error_propagate)(errp, local) };
    false
}

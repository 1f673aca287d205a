//! The run-time library of file systems, as far as a driver without one calls it: names and wild cards.

use squall_testkernel_pure::{name_expression, utf16};

use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE, TRUE, UNICODE_STRING};
use crate::selftest::{check, kernel_test};

/// A part of a string, which lies in the string's own buffer.
fn part(units: &[u16]) -> UNICODE_STRING {
    let bytes = (units.len() * 2) as u16;
    UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: units.as_ptr().cast_mut() }
}

fn boolean(is: bool) -> BOOLEAN {
    if is { TRUE } else { FALSE }
}

export! {
    /// *FsRtlIsNameInExpression function (ntifs.h)*: where case is ignored, the expression has to be in upper case; the table of upper-case
    /// forms is the system's.
    pub unsafe extern "win64" fn FsRtlIsNameInExpression(
        expression: *const UNICODE_STRING,
        name: *const UNICODE_STRING,
        ignore_case: BOOLEAN,
        _table: *const u16,
    ) -> BOOLEAN {
        // SAFETY: the caller gives two valid strings.
        let (expression, name) = unsafe { ((*expression).units(), (*name).units()) };
        boolean(name_expression::matches(expression, name, ignore_case != 0))
    }

    /// *FsRtlDoesNameContainWildCards function (ntifs.h)*.
    pub unsafe extern "win64" fn FsRtlDoesNameContainWildCards(name: *const UNICODE_STRING) -> BOOLEAN {
        // SAFETY: the caller gives a valid string.
        boolean(name_expression::has_wild_cards(unsafe { (*name).units() }))
    }

    /// *FsRtlDissectName function (ntifs.h)*: the first part of a path and the rest, in the path's own buffer.
    pub unsafe extern "win64" fn FsRtlDissectName(
        path: UNICODE_STRING,
        first: *mut UNICODE_STRING,
        rest: *mut UNICODE_STRING,
    ) {
        // SAFETY: the caller gives a valid string and storage for two.
        unsafe {
            let (begins, goes_on) = name_expression::dissect(path.units());
            first.write(if begins.is_empty() { UNICODE_STRING::EMPTY } else { part(begins) });
            rest.write(if goes_on.is_empty() { UNICODE_STRING::EMPTY } else { part(goes_on) });
        }
    }

    /// *FsRtlAreNamesEqual function (ntifs.h)*.
    pub unsafe extern "win64" fn FsRtlAreNamesEqual(
        left: *const UNICODE_STRING,
        right: *const UNICODE_STRING,
        ignore_case: BOOLEAN,
        _table: *const u16,
    ) -> BOOLEAN {
        // SAFETY: the caller gives two valid strings.
        let (left, right) = unsafe { ((*left).units(), (*right).units()) };
        boolean(utf16::compare(left, right, ignore_case != 0).is_eq())
    }
}

kernel_test! {
    fn a_path_is_dissected_in_place() {
        let path = utf16::encode(r"\One\Two\Three");
        let (mut first, mut rest) = (UNICODE_STRING::EMPTY, UNICODE_STRING::EMPTY);
        // SAFETY: locals.
        unsafe {
            FsRtlDissectName(part(&path), &raw mut first, &raw mut rest);
            check!(utf16::display(first.units()) == "One" && utf16::display(rest.units()) == r"Two\Three");
            check!(rest.Buffer == path.as_ptr().cast_mut().wrapping_add(5));
        }
    }
}

//! The routines with `_s`: they are told how much room there is, and fail instead of writing beyond it.
//!
//! *Security Features in the CRT* and the page of each routine say how: an error number, and where text should have been, an empty
//! text. A program would end in the invalid parameter handler first; a kernel has none, and goes on with the error, as those pages
//! say of a handler that returns.

use core::arch::naked_asm;
use core::ffi::c_void;
use core::ptr;

use super::{Unit, length, number};
use crate::ldr::export::export;
use crate::rtl::format::{_vsnprintf, _vsnwprintf};
use crate::selftest::{check, kernel_test};

/// `errno_t`: it went well.
const FINE: i32 = 0;
/// An argument that makes no sense.
pub(super) const EINVAL: i32 = 22;
/// Not enough room.
pub(super) const ERANGE: i32 = 34;
/// Not enough room, and as much as fits was asked for.
const STRUNCATE: i32 = 80;
/// `_TRUNCATE`: as much as fits.
const TRUNCATE: usize = usize::MAX;

/// Makes the text empty, and gives the error.
///
/// # Safety
/// `to` must have room for a unit.
unsafe fn refuse<T: Unit>(to: *mut T, error: i32) -> i32 {
    // SAFETY: the caller's contract.
    unsafe { to.write(T::ZERO) };
    error
}

/// Puts at most `most` units of `from` where `to` has `used` units, of `size`.
///
/// # Safety
/// `to` must have `size` units, `from` end in a zero or have `most` units.
unsafe fn put<T: Unit>(to: *mut T, size: usize, used: usize, from: *const T, most: usize) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        if from.is_null() {
            return refuse(to, EINVAL);
        }
        // No more is looked at than would fit: that is where the text may end.
        let room = size - used;
        let count = length(from, most.min(room));
        if count < room {
            from.copy_to(to.add(used), count);
            to.add(used + count).write(T::ZERO);
            return FINE;
        }
        if most != TRUNCATE {
            return refuse(to, ERANGE);
        }
        from.copy_to(to.add(used), room - 1);
        to.add(size - 1).write(T::ZERO);
        STRUNCATE
    }
}

/// `strcpy_s`, `strncpy_s`.
///
/// # Safety
/// As for [`put`].
unsafe fn copy<T: Unit>(to: *mut T, size: usize, from: *const T, most: usize, bounded: bool) -> i32 {
    if bounded && to.is_null() && size == 0 && most == 0 {
        return FINE;
    }
    if to.is_null() || size == 0 {
        return EINVAL;
    }
    // SAFETY: the caller's contract.
    unsafe {
        if bounded && most == 0 {
            return refuse(to, FINE);
        }
        // Without a bound all of it has to fit.
        put(to, size, 0, from, if bounded { most } else { TRUNCATE - 1 })
    }
}

/// `strcat_s`, `strncat_s`.
///
/// # Safety
/// As for [`put`].
unsafe fn append<T: Unit>(to: *mut T, size: usize, from: *const T, most: usize, bounded: bool) -> i32 {
    if bounded && to.is_null() && size == 0 && most == 0 {
        return FINE;
    }
    if to.is_null() || size == 0 {
        return EINVAL;
    }
    // SAFETY: the caller's contract.
    unsafe {
        let used = length(to, size);
        if used == size {
            // It does not end where it should.
            return refuse(to, EINVAL);
        }
        if bounded && most == 0 {
            return FINE;
        }
        put(to, size, used, from, if bounded { most } else { TRUNCATE - 1 })
    }
}

/// `_strset_s`: every unit before the terminator, at most so many.
///
/// # Safety
/// `text` must have `size` units.
unsafe fn fill<T: Unit>(text: *mut T, size: usize, unit: T, most: usize) -> i32 {
    if text.is_null() || size == 0 {
        return EINVAL;
    }
    // SAFETY: the caller's contract.
    unsafe {
        let used = length(text, size);
        if used == size {
            return refuse(text, EINVAL);
        }
        (0..used.min(most)).for_each(|index| text.add(index).write(unit));
    }
    FINE
}

/// `strtok_s`: the next part of a text between any of the delimiters; null where there is none.
///
/// # Safety
/// Texts must be terminated, and `context` be the caller's from the call before.
unsafe fn token<T: Unit>(text: *mut T, delimiters: *const T, context: *mut *mut T) -> *mut T {
    // SAFETY: the caller's contract.
    unsafe {
        let from = if text.is_null() { context.read() } else { text };
        if delimiters.is_null() || from.is_null() {
            return ptr::null_mut();
        }
        let start = from.add(super::span(from, delimiters, true));
        let end = start.add(super::span(start, delimiters, false));
        if start == end {
            context.write(end);
            return ptr::null_mut();
        }
        if end.read() == T::ZERO {
            context.write(end);
        } else {
            end.write(T::ZERO);
            context.write(end.add(1));
        }
        start
    }
}

/// Declares the routines of one unit.
macro_rules! secure_text {
    ($unit:ty: $copy:ident $copy_up_to:ident $append:ident $append_up_to:ident $set:ident $set_up_to:ident) => { export! {
        /// Copies all of it, or nothing.
        pub unsafe extern "win64" fn $copy(to: *mut $unit, size: usize, from: *const $unit) -> i32 {
            // SAFETY: the caller gives so many units, and terminated text.
            unsafe { copy(to, size, from, 0, false) }
        }

        /// Copies at most so many units and a terminator, or nothing; with `_TRUNCATE`, what fits.
        pub unsafe extern "win64" fn $copy_up_to(to: *mut $unit, size: usize, from: *const $unit, most: usize) -> i32 {
            // SAFETY: as above.
            unsafe { copy(to, size, from, most, true) }
        }

        /// Appends all of it; what does not fit empties the whole text.
        pub unsafe extern "win64" fn $append(to: *mut $unit, size: usize, from: *const $unit) -> i32 {
            // SAFETY: the caller gives so many units, and terminated texts.
            unsafe { append(to, size, from, 0, false) }
        }

        /// Appends at most so many units; with `_TRUNCATE`, what fits.
        pub unsafe extern "win64" fn $append_up_to(to: *mut $unit, size: usize, from: *const $unit, most: usize) -> i32 {
            // SAFETY: as above.
            unsafe { append(to, size, from, most, true) }
        }

        /// Makes every unit this one.
        pub unsafe extern "win64" fn $set(text: *mut $unit, size: usize, unit: i32) -> i32 {
            // SAFETY: the caller gives so many units.
            unsafe { fill(text, size, unit as $unit, usize::MAX) }
        }

        /// Makes the first units this one.
        pub unsafe extern "win64" fn $set_up_to(text: *mut $unit, size: usize, unit: i32, most: usize) -> i32 {
            // SAFETY: the caller gives so many units.
            unsafe { fill(text, size, unit as $unit, most) }
        }
    } };
}

secure_text! { u8: strcpy_s strncpy_s strcat_s strncat_s _strset_s _strnset_s }
secure_text! { u16: wcscpy_s wcsncpy_s wcscat_s wcsncat_s _wcsset_s _wcsnset_s }

/// Declares the routines that make text of a number.
macro_rules! secure_numbers {
    ($($name:ident: $value:ty => $unit:ty;)*) => { export! { $(
        /// A number as text, or an empty text where it does not fit.
        pub unsafe extern "win64" fn $name(value: $value, text: *mut $unit, size: usize, base: i32) -> i32 {
            #[allow(clippy::allow_attributes, unused_comparisons, clippy::cast_lossless, reason = "signed and unsigned, of both sizes")]
            let (negative, bits) = (value < 0, value as u64 & (u64::MAX >> (64 - <$value>::BITS)));
            let negative = negative && base == 10;
            let amount = if negative { (value as i64).unsigned_abs() } else { bits };
            // SAFETY: the caller gives so many units.
            unsafe { write_number(amount, negative, text, size, base) }
        }
    )* } };
}

secure_numbers! {
    _itoa_s: i32 => u8;
    _itow_s: i32 => u16;
    _ltoa_s: i32 => u8;
    _ltow_s: i32 => u16;
    _ultoa_s: u32 => u8;
    _ultow_s: u32 => u16;
    _i64toa_s: i64 => u8;
    _i64tow_s: i64 => u16;
    _ui64toa_s: u64 => u8;
    _ui64tow_s: u64 => u16;
}

/// # Safety
/// `text` must have `size` units.
unsafe fn write_number<T: Unit + From<u8>>(
    amount: u64,
    negative: bool,
    text: *mut T,
    size: usize,
    base: i32,
) -> i32 {
    if text.is_null() || size == 0 {
        return EINVAL;
    }
    let mut digits = number::Digits::new();
    // SAFETY: the caller's contract.
    unsafe {
        let Some(digits) = u32::try_from(base).ok().and_then(|base| digits.of(amount, negative, base)) else {
            return refuse(text, EINVAL);
        };
        if digits.len() >= size {
            return refuse(text, ERANGE);
        }
        for (index, &digit) in digits.iter().chain(&[0]).enumerate() {
            text.add(index).write(digit.into());
        }
    }
    FINE
}

/// What the routines with a buffer's size and a count make of `_vsnprintf`.
struct Printed {
    /// Units of the buffer.
    size: usize,
    /// Most units to be written, without the terminator; `None` where everything has to fit.
    most: Option<usize>,
}

impl Printed {
    /// # Safety
    /// `to` must have `size` units; `print` writes at most as many as it is told.
    unsafe fn print<T: Unit>(self, to: *mut T, print: impl FnOnce(*mut T, usize) -> i32) -> i32 {
        if to.is_null() || self.size == 0 {
            return -1;
        }
        let room = match self.most {
            Some(most) if most < self.size => most,
            _ => self.size - 1,
        };
        // SAFETY: the caller's contract; `room` is below `size`.
        unsafe {
            let count = print(to, room);
            to.add(room).write(T::ZERO);
            let cut = self.most.is_some_and(|most| most == TRUNCATE || most < self.size);
            if count < 0 && !cut {
                to.write(T::ZERO);
            }
            count
        }
    }
}

export! {
    /// `vsprintf_s`: -1 and an empty text where it does not fit.
    pub unsafe extern "win64" fn vsprintf_s(to: *mut u8, size: usize, format: *const u8, words: *const u64) -> i32 {
        // SAFETY: the caller gives so many characters and the format's arguments.
        unsafe { Printed { size, most: None }.print(to, |to, room| _vsnprintf(to, room, format, words)) }
    }

    /// `vswprintf_s`: the same of UTF-16.
    pub unsafe extern "win64" fn vswprintf_s(to: *mut u16, size: usize, format: *const u16, words: *const u64) -> i32 {
        // SAFETY: as above.
        unsafe { Printed { size, most: None }.print(to, |to, room| _vsnwprintf(to, room, format, words)) }
    }

    /// `_vsnprintf_s`: -1 where more than `most` would be written; with `_TRUNCATE`, or a count below the size, what fits is.
    pub unsafe extern "win64" fn _vsnprintf_s(
        to: *mut u8,
        size: usize,
        most: usize,
        format: *const u8,
        words: *const u64,
    ) -> i32 {
        // SAFETY: as above.
        unsafe { Printed { size, most: Some(most) }.print(to, |to, room| _vsnprintf(to, room, format, words)) }
    }

    /// `_vsnwprintf_s`: the same of UTF-16.
    pub unsafe extern "win64" fn _vsnwprintf_s(
        to: *mut u16,
        size: usize,
        most: usize,
        format: *const u16,
        words: *const u64,
    ) -> i32 {
        // SAFETY: as above.
        unsafe { Printed { size, most: Some(most) }.print(to, |to, room| _vsnwprintf(to, room, format, words)) }
    }

    /// `sprintf_s`.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn sprintf_s(to: *mut u8, size: usize, format: *const u8) -> i32 {
        naked_asm!("mov [rsp + 32], r9", "lea r9, [rsp + 32]", "jmp {to}", to = sym vsprintf_s)
    }

    /// `swprintf_s`.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn swprintf_s(to: *mut u16, size: usize, format: *const u16) -> i32 {
        naked_asm!("mov [rsp + 32], r9", "lea r9, [rsp + 32]", "jmp {to}", to = sym vswprintf_s)
    }

    /// `_snprintf_s`.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn _snprintf_s(to: *mut u8, size: usize, most: usize, format: *const u8) -> i32 {
        // The fifth argument of the routine called is where the arguments begin.
        naked_asm!(
            "lea rax, [rsp + 40]",
            "sub rsp, 56",
            "mov [rsp + 32], rax",
            "call {to}",
            "add rsp, 56",
            "ret",
            to = sym _vsnprintf_s,
        )
    }

    /// `_snwprintf_s`.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn _snwprintf_s(to: *mut u16, size: usize, most: usize, format: *const u16) -> i32 {
        naked_asm!(
            "lea rax, [rsp + 40]",
            "sub rsp, 56",
            "mov [rsp + 32], rax",
            "call {to}",
            "add rsp, 56",
            "ret",
            to = sym _vsnwprintf_s,
        )
    }

    /// `strtok_s`.
    pub unsafe extern "win64" fn strtok_s(text: *mut u8, delimiters: *const u8, context: *mut *mut u8) -> *mut u8 {
        // SAFETY: the caller's texts and context.
        if context.is_null() { ptr::null_mut() } else { unsafe { token(text, delimiters, context) } }
    }

    /// `memcpy_s`: where it does not fit, the place it should have gone to is zeroed.
    pub unsafe extern "win64" fn memcpy_s(to: *mut c_void, size: usize, from: *const c_void, count: usize) -> i32 {
        if count == 0 {
            return FINE;
        }
        if to.is_null() {
            return EINVAL;
        }
        if from.is_null() || size < count {
            // SAFETY: the caller gives so many bytes.
            unsafe { to.write_bytes(0, size) };
            return if from.is_null() { EINVAL } else { ERANGE };
        }
        // SAFETY: it fits, and the caller gives so many bytes of both.
        unsafe { to.copy_from(from, count) };
        FINE
    }

    /// `memmove_s`: where it does not fit, nothing is written.
    pub unsafe extern "win64" fn memmove_s(to: *mut c_void, size: usize, from: *const c_void, count: usize) -> i32 {
        if count == 0 {
            return FINE;
        }
        if to.is_null() || from.is_null() {
            return EINVAL;
        }
        if size < count {
            return ERANGE;
        }
        // SAFETY: it fits, and the caller gives so many bytes of both.
        unsafe { to.copy_from(from, count) };
        FINE
    }
}

kernel_test! {
    fn what_does_not_fit_leaves_an_empty_text() {
        let mut room = *b"12345678";
        let to = room.as_mut_ptr();
        let text = |text: &core::ffi::CStr| text.as_ptr().cast::<u8>();
        // SAFETY: eight bytes, and terminated texts.
        unsafe {
            check!(strcpy_s(to, 8, text(c"abc")) == 0 && strcat_s(to, 8, text(c"defg")) == 0 && &room == b"abcdefg\0");
            check!(strcat_s(to, 8, text(c"h")) == ERANGE && room[0] == 0);
            check!(strcpy_s(to, 3, text(c"abc")) == ERANGE && room[0] == 0);
            check!(strncpy_s(to, 4, text(c"abcdef"), TRUNCATE) == STRUNCATE && room[..4] == *b"abc\0");
            check!(strncpy_s(to, 4, text(c"abcdef"), 3) == 0 && strncpy_s(to, 4, text(c"abcdef"), 4) == ERANGE);
            check!(strcpy_s(ptr::null_mut(), 4, text(c"")) == EINVAL && strcpy_s(to, 4, ptr::null()) == EINVAL);
            check!(_itoa_s(i32::MIN, to, 8, 10) == ERANGE && _itoa_s(-1, to, 8, 16) == ERANGE);
            check!(_itoa_s(-1234, to, 8, 10) == 0 && room[..6] == *b"-1234\0");
            check!(_ultoa_s(0xFEED, to, 8, 16) == 0 && room[..5] == *b"feed\0" && _itoa_s(1, to, 8, 1) == EINVAL);
        }
    }

    fn formatted_text_is_cut_only_where_that_was_asked_for() {
        let mut room = *b"12345678";
        let to = room.as_mut_ptr();
        let format = c"%d-%d".as_ptr().cast::<u8>();
        let words = [42u64, 7];
        let words = words.as_ptr();
        // SAFETY: eight bytes and the format's arguments.
        unsafe {
            check!(vsprintf_s(to, 8, format, words) == 4 && room[..5] == *b"42-7\0");
            check!(vsprintf_s(to, 4, format, words) == -1 && room[0] == 0);
            check!(_vsnprintf_s(to, 4, TRUNCATE, format, words) == -1 && room[..4] == *b"42-\0");
            check!(_vsnprintf_s(to, 8, 2, format, words) == -1 && room[..3] == *b"42\0");
            check!(_vsnprintf_s(to, 4, 4, format, words) == -1 && room[0] == 0);
        }
    }
}

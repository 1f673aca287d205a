//! The part of the C library that ntoskrnl.exe exports: drivers built without a C runtime find it here.
//!
//! Text ends with a zero, of bytes or of UTF-16 units. The locale is "C": only ASCII letters have a case, except in the wide
//! routines, which fold Latin letters the way the rest of the kernel does.

mod number;
mod secure;

use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering};

use squall_testkernel_pure::utf16;

use self::number::Digits;
use crate::ldr::export::export;
use crate::selftest::{check, kernel_test};

/// A byte or a UTF-16 unit.
trait Unit: Copy + Ord {
    const ZERO: Self;
    fn lower(self) -> Self;
    fn upper(self) -> Self;
}

impl Unit for u8 {
    const ZERO: Self = 0;
    fn lower(self) -> Self {
        self.to_ascii_lowercase()
    }
    fn upper(self) -> Self {
        self.to_ascii_uppercase()
    }
}

impl Unit for u16 {
    const ZERO: Self = 0;
    fn lower(self) -> Self {
        utf16::downcase(self)
    }
    fn upper(self) -> Self {
        utf16::upcase(self)
    }
}

/// # Safety
/// `text` must be terminated, or at least `most` units long.
unsafe fn length<T: Unit>(text: *const T, most: usize) -> usize {
    let mut length = 0;
    // SAFETY: the caller's contract.
    while length < most && unsafe { text.add(length).read() } != T::ZERO {
        length += 1;
    }
    length
}

/// # Safety
/// As for [`length`], of both.
unsafe fn compare<T: Unit>(left: *const T, right: *const T, most: usize, fold: impl Fn(T) -> T) -> i32 {
    for index in 0..most {
        // SAFETY: no unit before this one ended either text.
        let (left, right) = unsafe { (fold(left.add(index).read()), fold(right.add(index).read())) };
        if left != right {
            return left.cmp(&right) as i32;
        }
        if left == T::ZERO {
            break;
        }
    }
    0
}

/// Copies at most `most` units and a terminator.
///
/// # Safety
/// `from` as for [`length`]; `to` must have room.
unsafe fn append<T: Unit>(to: *mut T, from: *const T, most: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        let count = length(from, most);
        from.copy_to(to, count);
        to.add(count).write(T::ZERO);
    }
}

/// `strncpy`: exactly `count` units, filled up with zeroes and without a terminator where the text is longer.
///
/// # Safety
/// `from` as for [`length`]; `to` must have room for `count` units.
unsafe fn copy_padded<T: Unit>(to: *mut T, from: *const T, count: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        let text = length(from, count);
        from.copy_to(to, text);
        (text..count).for_each(|index| to.add(index).write(T::ZERO));
    }
}

/// The first or last place of a unit; the terminator counts.
///
/// # Safety
/// `text` must be terminated.
unsafe fn place<T: Unit>(text: *const T, wanted: T, last: bool) -> *mut T {
    // SAFETY: the caller's contract; the terminator is within reach.
    unsafe {
        let mut places = 0..=length(text, usize::MAX);
        let is_it = |&index: &usize| text.add(index).read() == wanted;
        let found = if last { places.rfind(is_it) } else { places.find(is_it) };
        found.map_or(core::ptr::null_mut(), |index| text.add(index).cast_mut())
    }
}

/// The first place of one text in another.
///
/// # Safety
/// Both must be terminated.
unsafe fn within<T: Unit>(text: *const T, wanted: *const T) -> *mut T {
    // SAFETY: the caller's contract.
    unsafe {
        let (all, part) = (length(text, usize::MAX), length(wanted, usize::MAX));
        let (all, part) = (core::slice::from_raw_parts(text, all), core::slice::from_raw_parts(wanted, part));
        if part.is_empty() {
            return text.cast_mut();
        }
        let found = all.windows(part.len()).position(|window| window == part);
        found.map_or(core::ptr::null_mut(), |index| text.add(index).cast_mut())
    }
}

/// How many units at the beginning are, or are not, among others.
///
/// # Safety
/// Both must be terminated.
unsafe fn span<T: Unit>(text: *const T, set: *const T, among: bool) -> usize {
    // SAFETY: the caller's contract.
    let (all, set) = unsafe {
        (
            core::slice::from_raw_parts(text, length(text, usize::MAX)),
            core::slice::from_raw_parts(set, length(set, usize::MAX)),
        )
    };
    all.iter().take_while(|unit| set.contains(unit) == among).count()
}

/// # Safety
/// `text` must be terminated.
unsafe fn fold_in_place<T: Unit>(text: *mut T, fold: impl Fn(T) -> T) -> *mut T {
    // SAFETY: the caller's contract.
    unsafe {
        (0..length(text, usize::MAX)).for_each(|index| text.add(index).write(fold(text.add(index).read())))
    };
    text
}

/// A number as text, in place; negative ones with a sign in base 10 only.
///
/// # Safety
/// `to` must have room.
unsafe fn write_number<T: Unit + From<u8>>(value: i32, to: *mut T, base: i32) -> *mut T {
    let base = if (2..=36).contains(&base) { base.unsigned_abs() } else { 10 };
    let negative = base == 10 && value < 0;
    let amount = if negative { value.unsigned_abs() } else { value.cast_unsigned() };
    let mut digits = Digits::new();
    // SAFETY: the caller's contract.
    unsafe {
        for (index, &digit) in
            digits.of(amount.into(), negative, base).into_iter().flatten().chain(&[0]).enumerate()
        {
            to.add(index).write(digit.into());
        }
    }
    to
}

/// # Safety
/// `text` must be terminated.
unsafe fn at<T: Unit + Into<u32>>(text: *const T) -> impl Fn(usize) -> u32 {
    // SAFETY: the caller's contract: whoever reads stops at the terminator.
    move |place| unsafe { text.add(place).read() }.into()
}

/// `atoi`: what is too large wraps.
///
/// # Safety
/// `text` must be terminated.
unsafe fn decimal<T: Unit + Into<u32>>(text: *const T) -> i32 {
    // SAFETY: the caller's contract.
    let read = number::read(unsafe { at(text) }, 10, u64::MAX);
    let value = read.amount as i32;
    if read.negative { value.wrapping_neg() } else { value }
}

/// `strtoul`.
///
/// # Safety
/// `text` must be terminated, `end` be storage or null.
unsafe fn unsigned<T: Unit + Into<u32>>(text: *const T, end: *mut *const T, base: i32, largest: u64) -> u64 {
    let base = u32::try_from(base).ok().filter(|base| *base == 0 || (2..=36).contains(base));
    // SAFETY: the caller's contract.
    unsafe {
        let read = base.map(|base| number::read(at(text), base, largest));
        if !end.is_null() {
            end.write(text.add(read.as_ref().map_or(0, |read| read.units)));
        }
        read.map_or(0, |read| {
            if read.negative && !read.overflow { read.amount.wrapping_neg() & largest } else { read.amount }
        })
    }
}

/// # Safety
/// `from` must be terminated, `to` have `most` units or be null.
unsafe fn convert<A: Unit, B: Unit>(
    to: *mut B,
    from: *const A,
    most: usize,
    each: impl Fn(A) -> Option<B>,
) -> usize {
    let most = if to.is_null() { usize::MAX } else { most };
    for place in 0..most {
        // SAFETY: the caller's contract; no unit before this one was the terminator.
        let unit = unsafe { from.add(place).read() };
        let Some(converted) = each(unit) else { return usize::MAX };
        if !to.is_null() {
            // SAFETY: below `most`.
            unsafe { to.add(place).write(converted) };
        }
        if unit == A::ZERO {
            return place;
        }
    }
    most
}

/// The routine by which [`qsort`] and [`bsearch`] compare.
type Compare = unsafe extern "win64" fn(*const c_void, *const c_void) -> i32;

/// The state of `rand`.
static SEED: AtomicU32 = AtomicU32::new(1);

/// Declares the routines of one unit.
macro_rules! text_routines {
    ($unit:ty: $length:ident $length_up_to:ident $compare:ident $compare_up_to:ident $compare_folded:ident
     $compare_folded_up_to:ident $copy:ident $copy_up_to:ident $append:ident $append_up_to:ident $first:ident $last:ident
     $within:ident $span:ident $lower:ident $upper:ident $set:ident $reverse:ident) => { export! {
        /// Units before the terminator.
        pub unsafe extern "win64" fn $length(text: *const $unit) -> usize {
            // SAFETY: the caller gives terminated text.
            unsafe { length(text, usize::MAX) }
        }

        /// Units before the terminator, at most so many.
        pub unsafe extern "win64" fn $length_up_to(text: *const $unit, most: usize) -> usize {
            // SAFETY: the caller gives terminated text, or so many units.
            unsafe { length(text, most) }
        }

        /// Below, equal to or above zero.
        pub unsafe extern "win64" fn $compare(left: *const $unit, right: *const $unit) -> i32 {
            // SAFETY: the caller gives terminated texts.
            unsafe { compare(left, right, usize::MAX, |unit| unit) }
        }

        /// The same for the first units.
        pub unsafe extern "win64" fn $compare_up_to(left: *const $unit, right: *const $unit, most: usize) -> i32 {
            // SAFETY: the caller gives terminated texts, or so many units.
            unsafe { compare(left, right, most, |unit| unit) }
        }

        /// The same without regard to case.
        pub unsafe extern "win64" fn $compare_folded(left: *const $unit, right: *const $unit) -> i32 {
            // SAFETY: the caller gives terminated texts.
            unsafe { compare(left, right, usize::MAX, Unit::lower) }
        }

        /// The same for the first units without regard to case.
        pub unsafe extern "win64" fn $compare_folded_up_to(
            left: *const $unit,
            right: *const $unit,
            most: usize,
        ) -> i32 {
            // SAFETY: the caller gives terminated texts, or so many units.
            unsafe { compare(left, right, most, Unit::lower) }
        }

        /// Copies, terminator included.
        pub unsafe extern "win64" fn $copy(to: *mut $unit, from: *const $unit) -> *mut $unit {
            // SAFETY: the caller gives terminated text and room for it.
            unsafe { append(to, from, usize::MAX) };
            to
        }

        /// Copies exactly so many units, filled up with zeroes.
        pub unsafe extern "win64" fn $copy_up_to(to: *mut $unit, from: *const $unit, count: usize) -> *mut $unit {
            // SAFETY: the caller gives terminated text and room for the count.
            unsafe { copy_padded(to, from, count) };
            to
        }

        /// Appends.
        pub unsafe extern "win64" fn $append(to: *mut $unit, from: *const $unit) -> *mut $unit {
            // SAFETY: the caller gives terminated texts and room for both in the first.
            unsafe { append(to.add(length(to, usize::MAX)), from, usize::MAX) };
            to
        }

        /// Appends at most so many units, and a terminator.
        pub unsafe extern "win64" fn $append_up_to(to: *mut $unit, from: *const $unit, most: usize) -> *mut $unit {
            // SAFETY: as above.
            unsafe { append(to.add(length(to, usize::MAX)), from, most) };
            to
        }

        /// The first place of a unit, or null.
        pub unsafe extern "win64" fn $first(text: *const $unit, unit: i32) -> *mut $unit {
            // SAFETY: the caller gives terminated text.
            unsafe { place(text, unit as $unit, false) }
        }

        /// The last place of a unit, or null.
        pub unsafe extern "win64" fn $last(text: *const $unit, unit: i32) -> *mut $unit {
            // SAFETY: the caller gives terminated text.
            unsafe { place(text, unit as $unit, true) }
        }

        /// The first place of one text in another, or null.
        pub unsafe extern "win64" fn $within(text: *const $unit, wanted: *const $unit) -> *mut $unit {
            // SAFETY: the caller gives terminated texts.
            unsafe { within(text, wanted) }
        }

        /// How many units at the beginning are of a set.
        pub unsafe extern "win64" fn $span(text: *const $unit, set: *const $unit) -> usize {
            // SAFETY: the caller gives terminated texts.
            unsafe { span(text, set, true) }
        }

        /// To lower case, in place.
        pub unsafe extern "win64" fn $lower(text: *mut $unit) -> *mut $unit {
            // SAFETY: the caller gives terminated text.
            unsafe { fold_in_place(text, Unit::lower) }
        }

        /// To upper case, in place.
        pub unsafe extern "win64" fn $upper(text: *mut $unit) -> *mut $unit {
            // SAFETY: the caller gives terminated text.
            unsafe { fold_in_place(text, Unit::upper) }
        }

        /// Makes every unit this one.
        pub unsafe extern "win64" fn $set(text: *mut $unit, unit: i32) -> *mut $unit {
            // SAFETY: the caller gives terminated text.
            unsafe { fold_in_place(text, |_| unit as $unit) }
        }

        /// Turns the text round.
        pub unsafe extern "win64" fn $reverse(text: *mut $unit) -> *mut $unit {
            // SAFETY: the caller gives terminated text.
            unsafe { core::slice::from_raw_parts_mut(text, length(text, usize::MAX)) }.reverse();
            text
        }
    } };
}

text_routines! { u16: wcslen wcsnlen wcscmp wcsncmp _wcsicmp _wcsnicmp wcscpy wcsncpy wcscat wcsncat wcschr wcsrchr wcsstr
wcsspn _wcslwr _wcsupr _wcsset _wcsrev }
text_routines! { u8: strlen strnlen strcmp strncmp _stricmp _strnicmp strcpy strncpy strcat strncat strchr strrchr strstr
strspn _strlwr _strupr _strset _strrev }

/// Declares tests of a character.
macro_rules! classes {
    ($($name:ident => $is:ident;)*) => { export! { $(
        /// Nonzero where the character is of that class.
        pub unsafe extern "win64" fn $name(character: i32) -> i32 {
            u8::try_from(character).is_ok_and(|byte| byte.$is()).into()
        }
    )* } };
}

classes! {
    isdigit => is_ascii_digit;
    islower => is_ascii_lowercase;
    isupper => is_ascii_uppercase;
    isxdigit => is_ascii_hexdigit;
}

export! {
    /// How many units at the beginning are not of a set.
    pub unsafe extern "win64" fn wcscspn(text: *const u16, set: *const u16) -> usize {
        // SAFETY: the caller gives terminated texts.
        unsafe { span(text, set, false) }
    }

    /// Nonzero for blank, tab, newline, vertical tab, form feed and carriage return.
    pub unsafe extern "win64" fn isspace(character: i32) -> i32 {
        matches!(character, 9..=13 | 32).into()
    }

    /// Nonzero for what takes a place on a line.
    pub unsafe extern "win64" fn isprint(character: i32) -> i32 {
        matches!(character, 0x20..=0x7E).into()
    }

    /// ASCII.
    pub unsafe extern "win64" fn tolower(character: i32) -> i32 {
        u8::try_from(character).map_or(character, |byte| byte.to_ascii_lowercase().into())
    }

    /// ASCII.
    pub unsafe extern "win64" fn toupper(character: i32) -> i32 {
        u8::try_from(character).map_or(character, |byte| byte.to_ascii_uppercase().into())
    }

    /// Latin letters.
    pub unsafe extern "win64" fn towlower(unit: u16) -> u16 {
        utf16::downcase(unit)
    }

    /// Latin letters.
    pub unsafe extern "win64" fn towupper(unit: u16) -> u16 {
        utf16::upcase(unit)
    }

    /// Blanks, a sign, decimal digits; what follows is ignored.
    pub unsafe extern "win64" fn atoi(text: *const u8) -> i32 {
        // SAFETY: the caller gives terminated text.
        unsafe { decimal(text) }
    }

    /// The same of UTF-16.
    pub unsafe extern "win64" fn _wtoi(text: *const u16) -> i32 {
        // SAFETY: the caller gives terminated text.
        unsafe { decimal(text) }
    }

    /// A `long` has 32 bits.
    pub unsafe extern "win64" fn _wtol(text: *const u16) -> i32 {
        // SAFETY: the caller gives terminated text.
        unsafe { decimal(text) }
    }

    /// A number of any base, 0 for what its prefix says; all ones where it is too large. `end` is told where it ends.
    pub unsafe extern "win64" fn wcstoul(text: *const u16, end: *mut *const u16, base: i32) -> u32 {
        // SAFETY: the caller gives terminated text, and room for its end or null.
        unsafe { unsigned(text, end, base, u32::MAX.into()) as u32 }
    }

    /// The same of 64 bits.
    pub unsafe extern "win64" fn _strtoui64(text: *const u8, end: *mut *const u8, base: i32) -> u64 {
        // SAFETY: the caller gives terminated text, and room for its end or null.
        unsafe { unsigned(text, end, base, u64::MAX) }
    }

    /// ASCII as UTF-16: at most so many units, with a terminator where there is room; how many without it. A null buffer counts.
    pub unsafe extern "win64" fn mbstowcs(to: *mut u16, from: *const u8, most: usize) -> usize {
        // SAFETY: the caller gives terminated text and so many units.
        unsafe { convert(to, from, most, |byte| Some(byte.into())) }
    }

    /// UTF-16 as ASCII: the same; all ones where a unit is no ASCII.
    pub unsafe extern "win64" fn wcstombs(to: *mut u8, from: *const u16, most: usize) -> usize {
        // SAFETY: the caller gives terminated text and so many bytes.
        unsafe { convert(to, from, most, |unit| u8::try_from(unit).ok()) }
    }

    /// A `long` has 32 bits.
    pub unsafe extern "win64" fn atol(text: *const u8) -> i32 {
        // SAFETY: the caller gives terminated text.
        unsafe { decimal(text) }
    }

    /// A number as text.
    pub unsafe extern "win64" fn _itoa(value: i32, text: *mut u8, base: i32) -> *mut u8 {
        // SAFETY: the caller gives room for 33 characters.
        unsafe { write_number(value, text, base) }
    }

    /// A number as text.
    pub unsafe extern "win64" fn _itow(value: i32, text: *mut u16, base: i32) -> *mut u16 {
        // SAFETY: the caller gives room for 33 characters.
        unsafe { write_number(value, text, base) }
    }

    /// The first place of a byte, or null.
    pub unsafe extern "win64" fn memchr(memory: *const c_void, byte: i32, count: usize) -> *mut c_void {
        let memory = memory.cast::<u8>();
        // SAFETY: the caller gives that many bytes.
        let found = (0..count).find(|&index| unsafe { memory.add(index).read() } == byte as u8);
        found.map_or(core::ptr::null_mut(), |index| memory.wrapping_add(index).cast_mut().cast())
    }

    /// Sorts in place: a heap sort, which needs no memory and no luck.
    pub unsafe extern "win64" fn qsort(base: *mut c_void, count: usize, size: usize, routine: Compare) {
        let at = |index: usize| base.cast::<u8>().wrapping_add(index * size);
        // SAFETY: the caller gives that many elements of that size and a routine that compares two of them.
        let less = |left: usize, right: usize| unsafe { routine(at(left).cast(), at(right).cast()) } < 0;
        // SAFETY: two different elements.
        let swap = |left: usize, right: usize| unsafe { core::ptr::swap_nonoverlapping(at(left), at(right), size) };
        let sift = |mut root: usize, end: usize| {
            while let Some(child) = Some(2 * root + 1).filter(|&child| child < end) {
                let larger = if child + 1 < end && less(child, child + 1) { child + 1 } else { child };
                if !less(root, larger) {
                    break;
                }
                swap(root, larger);
                root = larger;
            }
        };
        (0..count / 2).rev().for_each(|root| sift(root, count));
        for end in (1..count).rev() {
            swap(0, end);
            sift(0, end);
        }
    }

    /// Searches what is sorted; null where it is not there.
    pub unsafe extern "win64" fn bsearch(
        key: *const c_void,
        base: *const c_void,
        count: usize,
        size: usize,
        routine: Compare,
    ) -> *mut c_void {
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            let element = base.cast::<u8>().wrapping_add(middle * size).cast::<c_void>();
            // SAFETY: the caller gives that many elements of that size and a routine that compares the key with one.
            match unsafe { routine(key, element) } {
                0 => return element.cast_mut(),
                order if order < 0 => high = middle,
                _ => low = middle + 1,
            }
        }
        core::ptr::null_mut()
    }

    /// Begins the sequence of `rand` anew.
    pub unsafe extern "win64" fn srand(seed: u32) {
        SEED.store(seed, Ordering::Relaxed);
    }

    /// 0 to 32767.
    pub unsafe extern "win64" fn rand() -> i32 {
        let next = |seed: u32| seed.wrapping_mul(214_013).wrapping_add(2_531_011);
        let before = SEED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |seed| Some(next(seed)));
        (next(before.unwrap_or_else(|seed| seed)) >> 16 & 0x7FFF).cast_signed()
    }
}

kernel_test! {
    fn sorting_sorts_and_searching_finds() {
        unsafe extern "win64" fn order(left: *const c_void, right: *const c_void) -> i32 {
            // SAFETY: the arrays below hold such numbers.
            unsafe { left.cast::<u32>().read().cmp(&right.cast::<u32>().read()) as i32 }
        }
        let mut numbers = [5u32, 3, 9, 1, 9, 0, 2, 7, 7, 4];
        let key = 7u32;
        // SAFETY: ten numbers of four bytes.
        unsafe {
            qsort(numbers.as_mut_ptr().cast(), numbers.len(), 4, order);
            check!(numbers.is_sorted());
            let found = bsearch((&raw const key).cast(), numbers.as_ptr().cast(), numbers.len(), 4, order);
            check!(!found.is_null() && found.cast::<u32>().read() == 7);
        }
    }
}

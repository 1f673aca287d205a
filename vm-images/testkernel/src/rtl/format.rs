//! `sprintf` and its like, and what the safe printf family of ntstrsafe.h is made of: text into a driver's own buffer.
//!
//! The header's `RtlStringCbPrintf` and the rest are code in the driver that ends in `_vsnprintf` or `_vsnwprintf`: at most so
//! many characters, a terminator only where there is room for it, and a negative result where not everything fitted.

use core::arch::naked_asm;

use squall_testkernel_pure::printf::{self, Sink, Width};

use crate::dbg::Words;
use crate::ldr::export::export;
use crate::selftest::{check, kernel_test};

/// More than anybody formats in a kernel; a string that is not terminated ends here.
const LONGEST: usize = 64 << 10;

/// A driver's buffer.
struct Buffer {
    start: *mut u8,
    width: Width,
    room: usize,
    length: usize,
}

impl Buffer {
    /// # Safety
    /// The place must lie in the buffer.
    unsafe fn write(&mut self, index: usize, letter: char) {
        // SAFETY: the caller's contract; the buffer is one of such units.
        unsafe {
            match self.width {
                Width::Narrow => self.start.add(index).write(u8::try_from(u32::from(letter)).unwrap_or(b'?')),
                Width::Wide => {
                    let unit = u16::try_from(u32::from(letter)).unwrap_or(0xFFFD);
                    self.start.cast::<u16>().add(index).write_unaligned(unit);
                }
            }
        }
    }
}

impl Sink for Buffer {
    fn put(&mut self, letter: char) {
        if self.length < self.room {
            // SAFETY: below `room`, which the caller vouches for.
            unsafe { self.write(self.length, letter) };
        }
        self.length += 1;
    }

    fn is_full(&self) -> bool {
        self.length > self.room
    }

    fn limit(&self) -> usize {
        LONGEST
    }
}

/// What is to be formatted, and where to.
#[derive(Clone, Copy)]
struct Request {
    width: Width,
    /// Units of the buffer.
    room: usize,
    format: u64,
    words: *const u64,
}

/// The characters that were written, or -1 where there were more.
///
/// # Safety
/// `start` must lead to so many units, `words` to the format's arguments.
unsafe fn write(start: *mut u8, request: Request) -> i32 {
    let Request { width, room, format, words } = request;
    let mut buffer = Buffer { start, width, room, length: 0 };
    printf::format_into(width, format, &mut Words::at(words), &mut buffer);
    if buffer.length < room {
        let end = buffer.length;
        // SAFETY: below `room`.
        unsafe { buffer.write(end, '\0') };
    }
    if buffer.length > room { -1 } else { i32::try_from(buffer.length).unwrap_or(-1) }
}

export! {
    /// `_vsnprintf`: at most `room` characters; -1 where there are more, and no terminator where exactly so many are written.
    pub unsafe extern "win64" fn _vsnprintf(to: *mut u8, room: usize, format: *const u8, words: *const u64) -> i32 {
        let request = Request { width: Width::Narrow, room, format: format.addr() as u64, words };
        // SAFETY: the caller gives a buffer of that size and the format's arguments.
        unsafe { write(to, request) }
    }

    /// `_vsnwprintf`: the same of UTF-16.
    pub unsafe extern "win64" fn _vsnwprintf(to: *mut u16, room: usize, format: *const u16, words: *const u64) -> i32 {
        let request = Request { width: Width::Wide, room, format: format.addr() as u64, words };
        // SAFETY: the caller gives a buffer of that size and the format's arguments.
        unsafe { write(to.cast(), request) }
    }

    /// `vsprintf`: the caller knows that it fits.
    pub unsafe extern "win64" fn vsprintf(to: *mut u8, format: *const u8, words: *const u64) -> i32 {
        // SAFETY: the caller gives a buffer that is large enough.
        unsafe { _vsnprintf(to, LONGEST, format, words) }
    }

    /// `_snprintf`.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn _snprintf(to: *mut u8, room: usize, format: *const u8) -> i32 {
        naked_asm!("mov [rsp + 32], r9", "lea r9, [rsp + 32]", "jmp {to}", to = sym _vsnprintf)
    }

    /// `_snwprintf`.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn _snwprintf(to: *mut u16, room: usize, format: *const u16) -> i32 {
        naked_asm!("mov [rsp + 32], r9", "lea r9, [rsp + 32]", "jmp {to}", to = sym _vsnwprintf)
    }

    /// `sprintf`.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn sprintf(to: *mut u8, format: *const u8) -> i32 {
        naked_asm!(
            "mov [rsp + 24], r8",
            "mov [rsp + 32], r9",
            "mov r8, rdx",
            "lea r9, [rsp + 24]",
            "mov edx, {longest}",
            "jmp {to}",
            longest = const LONGEST,
            to = sym _vsnprintf,
        )
    }

    /// `swprintf`, in the form without a size that ntoskrnl.exe has.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn swprintf(to: *mut u16, format: *const u16) -> i32 {
        naked_asm!(
            "mov [rsp + 24], r8",
            "mov [rsp + 32], r9",
            "mov r8, rdx",
            "lea r9, [rsp + 24]",
            "mov edx, {longest}",
            "jmp {to}",
            longest = const LONGEST,
            to = sym _vsnwprintf,
        )
    }
}

kernel_test! {
    fn text_is_written_as_far_as_it_fits() {
        let words = [42u64, 7];
        let mut room = [b'!'; 8];
        // SAFETY: a buffer of that size; the format takes no more words than there are.
        unsafe {
            check!(_vsnprintf(room.as_mut_ptr(), 8, c"%d-%d".as_ptr().cast(), words.as_ptr()) == 4);
            check!(&room == b"42-7\0!!!");
            check!(_vsnprintf(room.as_mut_ptr(), 4, c"%d-%d".as_ptr().cast(), words.as_ptr()) == 4);
            check!(_vsnprintf(room.as_mut_ptr(), 3, c"%d-%d".as_ptr().cast(), words.as_ptr()) == -1);
            check!(&room[..3] == b"42-");
        }
    }
}

//! What a driver says whose `ASSERT` does not hold: one that was built for checking itself imports this.

use squall_testkernel_pure::printf;

use super::{Words, filter, say};
use crate::ldr::export::export;
use crate::selftest::{check, kernel_test};

/// Message, expression, file, line.
const FORMAT: &core::ffi::CStr = c"\n*** Assertion failed: %s%s\n***   Source File: %s, line %u\n\n";
/// `DPFLTR_ERROR_LEVEL`.
const ERROR: u32 = 0;

fn text(message: *const u8, expression: *const u8, file: *const u8, line: u32) -> printf::Line {
    let message = if message.is_null() { c"".as_ptr().cast() } else { message };
    let word = |text: *const u8| text.expose_provenance() as u64;
    let words = [word(message), word(expression), word(file), line.into()];
    printf::format(word(FORMAT.as_ptr().cast()), &mut Words::at(words.as_ptr()))
}

export! {
    /// *ASSERT macro (wdm.h)*, of a checked build: says what failed and where. A debugger would be asked what to do next; without one the
    /// driver goes on.
    pub unsafe extern "win64" fn RtlAssert(
        expression: *const u8,
        file: *const u8,
        line: u32,
        message: *const u8,
    ) {
        say(&text(message, expression, file, line), filter::DEFAULT, ERROR);
    }
}

kernel_test! {
    fn an_assertion_says_what_failed_and_where() {
        let said = text(core::ptr::null(), c"a == b".as_ptr().cast(), c"card.c".as_ptr().cast(), 12);
        check!(said.as_str() == "\n*** Assertion failed: a == b\n***   Source File: card.c, line 12\n\n");
    }
}

//! The console: plain text out of the ISA debug port 0xE9, which the harness keeps as `console.log`.
//!
//! One line is one critical section, at every IRQL: DbgPrint may be called from an ISR. Interrupts are off
//! while a line goes out, so that no interrupt on the same processor can find the lock taken by the code it
//! interrupted.

use core::fmt::{self, Write};

use crate::arch::port;
use crate::ke::lock::InterruptLock;

/// isa-debugcon's default port.
const CONSOLE_PORT: u16 = 0xE9;

static CONSOLE: InterruptLock<DebugPort> = InterruptLock::new(DebugPort { port: CONSOLE_PORT });

/// A QEMU debug console: every byte written to the port is a byte of the host's file.
#[derive(Debug)]
pub struct DebugPort {
    port: u16,
}

impl DebugPort {
    /// The debug console at `port`. Harmless where there is none: nobody answers the write.
    #[must_use]
    pub const fn new(port: u16) -> Self {
        Self { port }
    }
}

impl Write for DebugPort {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            port::write_u8(self.port, byte);
        }
        Ok(())
    }
}

/// Writes `text`, formatted, as one uninterrupted piece.
pub fn print(text: fmt::Arguments<'_>) {
    // A debug port cannot fail.
    let _ = CONSOLE.lock().write_fmt(text);
}

/// For the bug check: writes without the lock, which a stopped processor may be holding.
pub fn print_unlocked(text: fmt::Arguments<'_>) {
    let _ = DebugPort::new(CONSOLE_PORT).write_fmt(text);
}

/// Writes one formatted line to the console; usable at every IRQL.
macro_rules! println {
    ($($part:tt)*) => {
        $crate::console::print(format_args!("{}\n", format_args!($($part)*)))
    };
}
pub(crate) use println;

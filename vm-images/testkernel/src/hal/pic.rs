//! The two 8259 interrupt controllers, which this kernel turns off: the APICs do their work.

use crate::arch::port;

/// Masks every line of both, after moving their vectors to where a spurious interrupt does no harm.
pub fn disable() {
    for (base, offset) in [(0x20, 0xF0), (0xA0, 0xF8)] {
        port::write_u8(base, 0x11); // ICW1: initialize, ICW4 follows
        port::write_u8(base + 1, offset); // ICW2: vectors
        port::write_u8(base + 1, if base == 0x20 { 4 } else { 2 }); // ICW3: the cascade
        port::write_u8(base + 1, 1); // ICW4: 8086 mode
        port::write_u8(base + 1, 0xFF); // mask all
    }
}

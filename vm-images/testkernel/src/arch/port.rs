//! x86 I/O ports.
//!
//! The functions are safe to call: a port access cannot break Rust's rules by itself. What a device does in
//! answer is the business of the code that knows the device.

use x86_64::instructions::port::Port;

/// Writes one byte.
#[inline]
pub fn write_u8(port: u16, value: u8) {
    // SAFETY: an I/O port write touches no memory of ours; a device that masters the bus was told where by its driver.
    unsafe { Port::new(port).write(value) }
}

/// Reads one byte.
#[inline]
pub fn read_u8(port: u16) -> u8 {
    // SAFETY: as above.
    unsafe { Port::new(port).read() }
}

/// Writes 16 bits.
#[inline]
pub fn write_u16(port: u16, value: u16) {
    // SAFETY: as above.
    unsafe { Port::new(port).write(value) }
}

/// Reads 16 bits.
#[inline]
pub fn read_u16(port: u16) -> u16 {
    // SAFETY: as above.
    unsafe { Port::new(port).read() }
}

/// Writes 32 bits.
#[inline]
pub fn write_u32(port: u16, value: u32) {
    // SAFETY: as above.
    unsafe { Port::new(port).write(value) }
}

/// Reads 32 bits.
#[inline]
pub fn read_u32(port: u16) -> u32 {
    // SAFETY: as above.
    unsafe { Port::new(port).read() }
}

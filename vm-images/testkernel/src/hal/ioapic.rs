//! The I/O APIC: where devices' lines become vectors.
//!
//! Each of its 24 pins has an entry that says at which vector and on which processor an interrupt there is
//! delivered, and whether the line's edge or its level counts. Everything is masked until somebody connects.

use squall_testkernel_pure::vectors::PINS;

use crate::ke::lock::InterruptLock;
use crate::mm;

const PHYSICAL: u64 = 0xFEC0_0000;

/// Byte offsets of the two registers through which all others are reached.
const SELECT: usize = 0x00;
const WINDOW: usize = 0x10;

const REDIRECTION: u32 = 0x10;
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;
/// Inputs from here on are PCI's alone, whose lines are pulled down; below, the chipset turns them round.
const FIRST_PCI_PIN: u8 = 16;

/// Base address of the registers; select and window belong together, hence the lock.
static IOAPIC: InterruptLock<usize> = InterruptLock::new(0);

fn write(base: usize, index: u32, value: u32) {
    // SAFETY: `init` mapped the registers' page; both are aligned words in it.
    unsafe {
        ((base + SELECT) as *mut u32).write_volatile(index);
        ((base + WINDOW) as *mut u32).write_volatile(value);
    }
}

/// Maps the registers and masks every pin.
pub fn init() {
    let base = mm::io::map(PHYSICAL, mm::frame::PAGE_SIZE, false);
    assert!(!base.is_null(), "no address left for the I/O APIC");
    *IOAPIC.lock() = base.addr();
    (0..PINS).for_each(mask);
}

/// Delivers `pin` at `vector` to one processor.
pub fn route(pin: u8, vector: u8, level_triggered: bool, apic_id: u32) {
    let base = IOAPIC.lock();
    let entry = REDIRECTION + 2 * u32::from(pin);
    // Masked while the two halves disagree.
    write(*base, entry, MASKED);
    write(*base, entry + 1, apic_id << 24);
    let polarity = if pin >= FIRST_PCI_PIN { ACTIVE_LOW } else { 0 };
    write(*base, entry, u32::from(vector) | polarity | if level_triggered { LEVEL } else { 0 });
}

/// Delivers `pin` no more.
pub fn mask(pin: u8) {
    let base = IOAPIC.lock();
    write(*base, REDIRECTION + 2 * u32::from(pin), MASKED);
}

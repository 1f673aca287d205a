//! From a bus's interrupt line to a vector: `HalGetInterruptVector`.

use squall_testkernel_pure::vectors::{irql_of_vector, pin_of_isa_line, vector_of_pin};

use super::bus;
use crate::ke::processor;
use crate::ldr::export::export;
use crate::nt::{INTERFACE_TYPE_PCI_BUS, KAFFINITY, KIRQL};

/// `INTERFACE_TYPE` values that drivers of a PC's own devices use.
mod interface {
    pub const INTERNAL: u32 = 0;
    pub const ISA: u32 = 1;
    pub const EISA: u32 = 2;
}

/// The vector of an ISA line, where a device can have that line.
pub fn vector_of_isa_line(line: u32) -> Option<u8> {
    vector_of_pin(pin_of_isa_line(u8::try_from(line).ok()?)?)
}

export! { in HAL;
    /// *HalGetInterruptVector function (ntddk.h)*: the vector, its IRQL and the processors that may take it.
    /// For ISA's lines (on bus 0) and PCI's, which are inputs of the I/O APIC; 0 where there is no such line. On x64
    /// Windows the headers hide it; drivers that link it get what the documentation of old says.
    pub unsafe extern "win64" fn HalGetInterruptVector(
        interface_type: u32,
        bus_number: u32,
        bus_interrupt_level: u32,
        _bus_interrupt_vector: u32,
        irql: *mut KIRQL,
        affinity: *mut KAFFINITY,
    ) -> u32 {
        let isa = matches!(interface_type, interface::INTERNAL | interface::ISA | interface::EISA);
        let vector = if isa && bus_number == 0 {
            vector_of_isa_line(bus_interrupt_level)
        } else if interface_type == INTERFACE_TYPE_PCI_BUS && bus::has_pci_bus(bus_number) {
            u8::try_from(bus_interrupt_level).ok().and_then(vector_of_pin)
        } else {
            None
        };
        // SAFETY: the caller's.
        unsafe {
            irql.write(vector.map_or(0, irql_of_vector));
            affinity.write(if vector.is_some() { processor::all_mask() } else { 0 });
        }
        u32::from(vector.unwrap_or(0))
    }
}

//! From a bus's interrupt line to a vector: `HalGetInterruptVector`. And from a device that writes a message
//! instead of raising a line: [`allocate_message`].

use squall_testkernel_pure::vectors::{MessageVectors, irql_of_vector, pin_of_isa_line, vector_of_pin};

use crate::ke::irql::Irql;
use crate::ke::lock::InterruptLock;
use crate::ke::processor::{self, Processor};
use crate::ldr::export::export;
use crate::nt::{KAFFINITY, KIRQL};
use crate::selftest::{check, kernel_test};

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

/// Where a write is an interrupt message, to the processor whose APIC number is in bits 12 to 19.
const MESSAGE_ADDRESS: u64 = 0xFEE0_0000;
const MESSAGE_DESTINATION_SHIFT: u32 = 12;

static MESSAGES: InterruptLock<MessageVectors> = InterruptLock::new(MessageVectors::new());

/// What a device has to write, and where, to interrupt a processor: an entry of MSI or MSI-X.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Where it writes.
    pub address: u64,
    /// What it writes: edge-triggered, to one fixed processor.
    pub data: u32,
    /// The vector that the message comes in at, nobody else's until [`free_message`].
    pub vector: u8,
    /// The IRQL of that vector.
    pub irql: Irql,
}

/// A vector for a message to `target`; none where all are taken. The vector has to be connected, as a line's.
pub fn allocate_message(target: &Processor) -> Option<Message> {
    let vector = MESSAGES.lock().allocate()?;
    Some(Message {
        address: MESSAGE_ADDRESS | u64::from(target.apic_id) << MESSAGE_DESTINATION_SHIFT,
        data: u32::from(vector),
        vector,
        irql: Irql::of_vector(vector),
    })
}

/// Gives a message's vector back, which nobody is connected to any more; false where it was not taken.
pub fn free_message(vector: u8) -> bool {
    MESSAGES.lock().free(vector)
}

/// Whether `vector` was allocated for a message.
pub fn is_message(vector: u8) -> bool {
    MESSAGES.lock().is_taken(vector)
}

export! { in HAL;
    /// *HalGetInterruptVector function (ntddk.h)*: the vector, its IRQL and the processors that may take it.
    /// For ISA's lines (on bus 0); 0 where there is no such line. On x64 Windows the headers hide it; drivers
    /// that link it get what the documentation of old says.
    pub unsafe extern "win64" fn HalGetInterruptVector(
        interface_type: u32,
        bus_number: u32,
        bus_interrupt_level: u32,
        _bus_interrupt_vector: u32,
        irql: *mut KIRQL,
        affinity: *mut KAFFINITY,
    ) -> u32 {
        let isa = matches!(interface_type, interface::INTERNAL | interface::ISA | interface::EISA);
        let vector = if isa && bus_number == 0 { vector_of_isa_line(bus_interrupt_level) } else { None };
        // SAFETY: the caller's.
        unsafe {
            irql.write(vector.map_or(0, irql_of_vector));
            affinity.write(if vector.is_some() { processor::all_mask() } else { 0 });
        }
        u32::from(vector.unwrap_or(0))
    }
}

kernel_test! {
    /// *Introduction to Message-Signaled Interrupts*: a message is a write of a value to an address.
    fn every_processor_can_be_sent_messages() {
        for processor in processor::all() {
            let message = allocate_message(processor);
            check!(message.is_some());
            let Some(Message { address, data, vector, irql }) = message else { return Ok(()) };
            check!(address == 0xFEE0_0000 | u64::from(processor.apic_id) << 12 && data == u32::from(vector));
            check!(irql > Irql::DISPATCH && is_message(vector));
            check!(free_message(vector) && !free_message(vector) && !is_message(vector));
        }
    }
}

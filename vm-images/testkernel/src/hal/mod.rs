//! The hardware abstraction layer: the interrupt controllers, the clock, the DMA controller and the firmware's configuration of a
//! PC.

pub mod apic;
pub mod beep;
pub mod bus;
pub mod clock;
pub mod dma_controller;
pub mod firmware;
pub mod interrupt;
pub mod ioapic;
pub mod message;
pub mod pci;
pub mod pic;

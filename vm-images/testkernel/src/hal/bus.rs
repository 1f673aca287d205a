//! Buses as drivers of old ask the HAL about them: configuration data, and what a bus address is to the processor.
//!
//! Of the kinds of bus data only PCI's configuration space is there, as on Windows today (*HalGetBusDataByOffset*).

use squall_testkernel_pure::pci::{Address, Config, Width};

use super::pci::{self, ConfigSpace};
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE, INTERFACE_TYPE_ISA, INTERFACE_TYPE_PCI_BUS, PHYSICAL_ADDRESS, PVOID, TRUE};
use crate::selftest::{check, kernel_test};

/// `BUS_DATA_TYPE::PCIConfiguration`.
const PCI_CONFIGURATION: u32 = 4;
/// `INTERFACE_TYPE::Internal` and `Eisa`, whose addresses are ISA's here.
const INTERNAL: u32 = 0;
const EISA: u32 = 2;
/// `PCI_INVALID_VENDORID`.
const NOBODY: u16 = 0xFFFF;
const CONFIGURATION_BYTES: u32 = 256;

/// Whether there is a PCI bus of this number.
pub fn has_pci_bus(bus: u32) -> bool {
    let behind =
        |bus: u32| pci::functions().iter().any(|function| function.secondary.map(u32::from) == Some(bus));
    !pci::functions().is_empty() && (bus == 0 || behind(bus))
}

/// The function at a bus and `PCI_SLOT_NUMBER`, if one answers there.
pub fn function_at(bus: u32, slot: u32) -> Option<&'static squall_testkernel_pure::pci::Function> {
    let address = Address::of_slot(u8::try_from(bus).ok()?, slot)?;
    pci::functions().iter().find(|function| function.address == address)
}

/// `offset..offset + length` in the widest pieces that lie at multiples of themselves, as far as there are registers.
fn accesses(offset: u32, length: u32) -> impl Iterator<Item = (u8, Width, usize)> {
    let end = offset.saturating_add(length).min(CONFIGURATION_BYTES);
    let mut at = offset;
    core::iter::from_fn(move || {
        let left = end.checked_sub(at).filter(|&left| left > 0)?;
        let (width, bytes) = match (at % 4, left) {
            (0, 4..) => (Width::Long, 4),
            (0 | 2, 2..) => (Width::Word, 2),
            _ => (Width::Byte, 1),
        };
        at += bytes;
        Some(((at - bytes) as u8, width, bytes as usize))
    })
}

export! { in HAL;
    /// *HalGetBusDataByOffset function (ntddk.h)*: PCIConfiguration, as many bytes as there are. 0 where there is no such
    /// bus; 2, and PCI_INVALID_VENDORID, where nobody answers in the slot.
    pub unsafe extern "win64" fn HalGetBusDataByOffset(
        kind: u32,
        bus: u32,
        slot: u32,
        buffer: PVOID,
        offset: u32,
        length: u32,
    ) -> u32 {
        if kind != PCI_CONFIGURATION || !has_pci_bus(bus) || length == 0 {
            return 0;
        }
        let mut to = buffer.cast::<u8>();
        // SAFETY: the caller gives `length` bytes.
        unsafe {
            let Some(function) = function_at(bus, slot) else {
                let nobody = NOBODY.to_le_bytes();
                let count = nobody.len().min(length as usize);
                nobody.as_ptr().copy_to_nonoverlapping(to, count);
                return count as u32;
            };
            for (register, width, bytes) in accesses(offset, length) {
                let value = ConfigSpace.read(function.address, register, width).to_le_bytes();
                value.as_ptr().copy_to_nonoverlapping(to, bytes);
                to = to.add(bytes);
            }
            to.offset_from_unsigned(buffer.cast()) as u32
        }
    }

    /// *HalGetBusData function (ntddk.h)*: the same from the beginning.
    pub unsafe extern "win64" fn HalGetBusData(kind: u32, bus: u32, slot: u32, buffer: PVOID, length: u32) -> u32 {
        // SAFETY: the contract is the same.
        unsafe { HalGetBusDataByOffset(kind, bus, slot, buffer, 0, length) }
    }

    /// *HalSetBusDataByOffset function (ntddk.h)*: PCIConfiguration; how many bytes were written, 0 where nobody answers.
    pub unsafe extern "win64" fn HalSetBusDataByOffset(
        kind: u32,
        bus: u32,
        slot: u32,
        buffer: PVOID,
        offset: u32,
        length: u32,
    ) -> u32 {
        let function = function_at(bus, slot).filter(|_| kind == PCI_CONFIGURATION);
        let Some(function) = function else { return 0 };
        let mut from = buffer.cast::<u8>().cast_const();
        let mut written = 0;
        for (register, width, bytes) in accesses(offset, length) {
            let mut value = [0; 4];
            // SAFETY: the caller gives `length` bytes.
            unsafe {
                from.copy_to_nonoverlapping(value.as_mut_ptr(), bytes);
                from = from.add(bytes);
            }
            ConfigSpace.write(function.address, register, width, u32::from_le_bytes(value));
            written += bytes as u32;
        }
        written
    }

    /// *HalSetBusData function (ntddk.h)*: the same from the beginning.
    pub unsafe extern "win64" fn HalSetBusData(kind: u32, bus: u32, slot: u32, buffer: PVOID, length: u32) -> u32 {
        // SAFETY: the contract is the same.
        unsafe { HalSetBusDataByOffset(kind, bus, slot, buffer, 0, length) }
    }

    /// *HalTranslateBusAddress function (ntddk.h)*: on a PC every bus address is the processor's own, in the same space.
    /// FALSE for a bus that there is not.
    pub unsafe extern "win64" fn HalTranslateBusAddress(
        interface: u32,
        bus: u32,
        address: PHYSICAL_ADDRESS,
        _space: *mut u32,
        translated: *mut PHYSICAL_ADDRESS,
    ) -> BOOLEAN {
        let exists = match interface {
            INTERNAL | INTERFACE_TYPE_ISA | EISA => bus == 0,
            INTERFACE_TYPE_PCI_BUS => has_pci_bus(bus),
            _ => false,
        };
        if !exists {
            return FALSE;
        }
        // SAFETY: the caller gives storage for the answer.
        unsafe { translated.write(address) };
        TRUE
    }
}

kernel_test! {
    /// *HalGetBusDataByOffset function* and *HalSetBusDataByOffset function (ntddk.h)*.
    fn configuration_space_is_read_and_written_in_any_piece() {
        let Some(function) = pci::functions().last() else { check!(false); return Ok(()) };
        let (bus, slot) = (function.address.bus.into(), function.address.slot());
        let mut bytes = [0xEEu8; 300];
        let to: PVOID = bytes.as_mut_ptr().cast();
        // SAFETY: the buffer is a local.
        unsafe {
            check!(HalGetBusData(PCI_CONFIGURATION, bus, slot, to, 300) == 256 && bytes[256] == 0xEE);
            check!(bytes[..2] == function.vendor.to_le_bytes() && bytes[2..4] == function.device.to_le_bytes());
            let whole = bytes;
            check!(HalGetBusDataByOffset(PCI_CONFIGURATION, bus, slot, to, 1, 6) == 6 && bytes[..6] == whole[1..7]);
            check!(HalGetBusDataByOffset(PCI_CONFIGURATION, bus, slot, to, 256, 4) == 0);
            // The line register is the firmware's notepad: nothing depends on it.
            let mut line = [0xA5, whole[0x3C]];
            let from: PVOID = line.as_mut_ptr().cast();
            check!(HalSetBusDataByOffset(PCI_CONFIGURATION, bus, slot, from, 0x3C, 1) == 1);
            check!(HalGetBusDataByOffset(PCI_CONFIGURATION, bus, slot, to, 0x3C, 1) == 1 && bytes[0] == 0xA5);
            let from: PVOID = (&raw mut line[1]).cast();
            check!(HalSetBusDataByOffset(PCI_CONFIGURATION, bus, slot, from, 0x3C, 1) == 1);
            check!(HalGetBusData(PCI_CONFIGURATION, 0, 31 | 7 << 5, to, 64) == 2 && bytes[..2] == [0xFF, 0xFF]);
            check!(HalGetBusData(PCI_CONFIGURATION, 200, 0, to, 64) == 0 && HalGetBusData(0, 0, 0, to, 64) == 0);
            check!(HalSetBusData(PCI_CONFIGURATION, 0, 31 | 7 << 5, to, 4) == 0);
        }
    }

    /// *HalTranslateBusAddress function (ntddk.h)*: FALSE for a bus that the machine has not.
    fn a_bus_address_is_the_processors_own() {
        let mut translated = 0;
        let mut space = 1;
        // SAFETY: both are locals.
        let mut translate = |interface, bus| unsafe {
            HalTranslateBusAddress(interface, bus, 0xC000, &raw mut space, &raw mut translated)
        };
        check!(translate(INTERFACE_TYPE_PCI_BUS, 0) == TRUE && translate(INTERFACE_TYPE_ISA, 0) == TRUE);
        check!(translate(INTERFACE_TYPE_PCI_BUS, 200) == FALSE && translate(99, 0) == FALSE);
        check!(translated == 0xC000 && space == 1);
    }
}

//! From the number on a jumper to what the processor sees.

use squall_driver_pure::Line;
use wdk_sys::{
    _INTERFACE_TYPE::{self, Isa},
    PKAFFINITY, PKIRQL, STATUS_DEVICE_CONFIGURATION_ERROR, ULONG,
};

use super::status::Result;

unsafe extern "C" {
    // Exported by HAL.dll, and left out of 64-bit headers (NO_LEGACY_DRIVERS), so declared here.
    fn HalGetInterruptVector(
        interface: _INTERFACE_TYPE::Type,
        bus: ULONG,
        level: ULONG,
        vector: ULONG,
        irql: PKIRQL,
        affinity: PKAFFINITY,
    ) -> ULONG;
}

/// Translates a line of the first ISA bus.
///
/// Documented for the Windows NT family, then called obsolete in favour of the resources that a plug and play driver is given. What it
/// answers on an ACPI machine for a line that no device node owns is not documented, and not verified here; where it refuses, the
/// translated resources of a claim driver have to come in its place, as for PCI.
pub(crate) fn translate(line: u8) -> Result<Line> {
    let (mut irql, mut affinity) = (0, 0);
    // SAFETY: both pointers are to locals. On ISA level and vector are both the line's number.
    let vector = unsafe { HalGetInterruptVector(Isa, 0, line.into(), line.into(), &mut irql, &mut affinity) };
    if vector == 0 || affinity == 0 {
        return Err(STATUS_DEVICE_CONFIGURATION_ERROR);
    }
    // An ISA card drives its line alone, and with an edge.
    Ok(Line { vector, irql, affinity, latched: true, shared: false })
}

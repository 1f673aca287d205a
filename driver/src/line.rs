//! From the number on a jumper to what the processor sees.

use wdk_sys::{
    _INTERFACE_TYPE::{self, Isa},
    KAFFINITY, KIRQL, PKAFFINITY, PKIRQL, STATUS_DEVICE_CONFIGURATION_ERROR, ULONG,
};

use crate::status::Result;

/// An interrupt line, translated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    /// The system's interrupt vector.
    pub(crate) vector: ULONG,
    /// The IRQL at which its interrupts are served.
    pub(crate) irql: KIRQL,
    /// The processors that may serve it.
    pub(crate) affinity: KAFFINITY,
}

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

impl Line {
    /// Translates a line of the first ISA bus.
    ///
    /// Documented for the Windows NT family, then called obsolete in favour of the resources that a plug and play driver is
    /// given. What it answers on an ACPI machine for a line that no device node owns is not documented, and not verified here;
    /// where it refuses, the translated resources of a claim driver have to come in its place.
    pub(crate) fn translate(line: u8) -> Result<Self> {
        let (mut irql, mut affinity) = (0, 0);
        // SAFETY: both pointers are to locals. On ISA level and vector are both the line's number.
        let vector =
            unsafe { HalGetInterruptVector(Isa, 0, line.into(), line.into(), &mut irql, &mut affinity) };
        if vector == 0 || affinity == 0 {
            return Err(STATUS_DEVICE_CONFIGURATION_ERROR);
        }
        Ok(Self { vector, irql, affinity })
    }
}

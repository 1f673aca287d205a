//! The card's ports and line, claimed before they are touched.
//!
//! A driver that looks for a card which cannot announce itself claims the resources first (*IoReportResourceForDetection function*):
//! reading a port that belongs to something else may do anything. Having found its card it tells the plug and play manager
//! (*IoReportDetectedDevice function*), which makes the physical device object that `IoConnectInterruptEx` asks for.
//!
//! Documented: all of that, and that a claim is given back with an empty list. Not followed: the caller "should attach" a function
//! device object to the physical one and serve its plug and play requests; this driver only wants the object for its interrupt.
//! Inferred: that real Windows connects an interrupt to a device reported like this, and gives the same device object again when
//! the driver is loaded a second time.

use core::ptr;

use squall_driver_pure::Settings;
use squall_registers::WINDOW_LEN;
use wdk_sys::{
    _CM_SHARE_DISPOSITION::CmResourceShareDeviceExclusive,
    _INTERFACE_TYPE::Isa,
    CM_PARTIAL_RESOURCE_DESCRIPTOR, CM_RESOURCE_INTERRUPT_LATCHED, CM_RESOURCE_LIST,
    CM_RESOURCE_PORT_16_BIT_DECODE, CM_RESOURCE_PORT_IO, CmResourceTypeInterrupt, CmResourceTypePort,
    DRIVER_OBJECT, FALSE, KAFFINITY, PDEVICE_OBJECT, PDRIVER_OBJECT, STATUS_NO_SUCH_DEVICE, TRUE, ULONG,
    ntddk::{IoReportDetectedDevice, IoReportResourceForDetection},
};

use super::{
    device::Device,
    status::{Result, check},
};

/// The right to the card's ports and line; given back when dropped.
pub(crate) struct Claim {
    driver: PDRIVER_OBJECT,
    device: PDEVICE_OBJECT,
    resources: Resources,
}

impl Claim {
    /// Claims what the settings name. Fails where another driver has it.
    ///
    /// # Safety
    ///
    /// `driver` is this driver's. The claim is dropped before the device is.
    pub(crate) unsafe fn take(
        driver: &mut DRIVER_OBJECT,
        device: &Device,
        settings: Settings,
    ) -> Result<Self> {
        let mut resources = Resources::of(settings);
        // SAFETY: driver and device are ours, by contract.
        check(unsafe { report(driver, device.as_ptr(), &mut resources) })?;
        Ok(Self { driver, device: device.as_ptr(), resources })
    }

    /// Tells the plug and play manager that the card is there, and gets its physical device object.
    pub(crate) fn report_detected(&mut self) -> Result<PDEVICE_OBJECT> {
        /// The bus knows no slots.
        const NO_SLOT: ULONG = ULONG::MAX;
        let mut physical = ptr::null_mut();
        // SAFETY: driver and list are ours; that the list is claimed is what TRUE says. An object is asked for by a null
        // pointer in its place.
        check(unsafe {
            IoReportDetectedDevice(
                self.driver,
                Isa,
                0,
                NO_SLOT,
                &mut self.resources.list,
                ptr::null_mut(),
                TRUE as u8,
                &mut physical,
            )
        })?;
        if physical.is_null() { Err(STATUS_NO_SUCH_DEVICE) } else { Ok(physical) }
    }

    /// Gives everything back: the ports are not ours any more.
    pub(crate) fn give_back(self) {
        drop(self);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.resources.list.Count = 0;
        // SAFETY: driver and device exist, by the contract of `take`. Giving back does not fail, and could not be helped.
        let _ = unsafe { report(self.driver, self.device, &mut self.resources) };
    }
}

/// # Safety
///
/// Both objects are this driver's.
unsafe fn report(
    driver: PDRIVER_OBJECT,
    device: PDEVICE_OBJECT,
    resources: &mut Resources,
) -> wdk_sys::NTSTATUS {
    let mut conflict = FALSE as u8;
    // SAFETY: the objects by contract; the list is as long as it says, at most two descriptors.
    unsafe {
        IoReportResourceForDetection(
            driver,
            ptr::null_mut(),
            0,
            device,
            &mut resources.list,
            size_of::<Resources>() as ULONG,
            &mut conflict,
        )
    }
}

/// A `CM_RESOURCE_LIST` of two descriptors. The C structure ends in an array of one that goes on behind its end.
#[repr(C)]
struct Resources {
    /// With the ports in its one descriptor.
    list: CM_RESOURCE_LIST,
    line: CM_PARTIAL_RESOURCE_DESCRIPTOR,
}

const _: () = assert!(size_of::<Resources>() == 60, "no gap between the descriptors");

impl Resources {
    fn of(settings: Settings) -> Self {
        // SAFETY: plain data, for which zero is a value.
        let mut resources: Self = unsafe { core::mem::zeroed() };

        let line = &mut resources.line;
        line.Type = CmResourceTypeInterrupt as u8;
        line.ShareDisposition = CmResourceShareDeviceExclusive as u8;
        line.Flags = CM_RESOURCE_INTERRUPT_LATCHED as u16;
        line.u.Interrupt.Level = settings.line.into();
        line.u.Interrupt.Vector = settings.line.into();
        line.u.Interrupt.Affinity = KAFFINITY::MAX;

        resources.list.Count = 1;
        let [full] = &mut resources.list.List;
        full.InterfaceType = Isa;
        full.BusNumber = 0;
        let partial = &mut full.PartialResourceList;
        partial.Version = 1;
        partial.Revision = 1;
        partial.Count = 2;
        let [ports] = &mut partial.PartialDescriptors;
        ports.Type = CmResourceTypePort as u8;
        ports.ShareDisposition = CmResourceShareDeviceExclusive as u8;
        ports.Flags = (CM_RESOURCE_PORT_IO | CM_RESOURCE_PORT_16_BIT_DECODE) as u16;
        ports.u.Port.Start.QuadPart = settings.io_port_base.into();
        ports.u.Port.Length = WINDOW_LEN.into();
        resources
    }
}

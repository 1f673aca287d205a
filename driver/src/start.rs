//! DriverEntry: what a legacy driver needs before its device may interrupt, in the order that needs it.

use wdk_sys::{DRIVER_OBJECT, PCUNICODE_STRING};

#[cfg(feature = "defects")]
use crate::defect::Defect;
use crate::{
    card::Card,
    claim::Claim,
    device::Device,
    dispatch,
    extension::{Extension, Held},
    interrupt::Interrupt,
    line::Line,
    link::Link,
    parameters, service,
    status::Result,
    unload::unload,
};

/// Brings the driver up. Where something fails, what was there already is given back in the opposite order by being dropped.
///
/// # Safety
///
/// As for [`driver_entry`](crate::driver_entry).
pub(crate) unsafe fn start(driver: &mut DRIVER_OBJECT, registry_path: PCUNICODE_STRING) -> Result<()> {
    // SAFETY: DriverEntry's own argument.
    let parameters = unsafe { parameters::open(registry_path) }?;
    let settings = parameters::settings(&parameters)?;
    #[cfg(feature = "defects")]
    let defect = Defect::chosen(&parameters)?;
    drop(parameters);

    // SAFETY: nothing touches the card before the claim below, or after it was given back.
    let card = unsafe { Card::at(settings.io_port_base) };
    let device = Device::create(
        driver,
        Extension::new(
            card,
            #[cfg(feature = "defects")]
            defect,
        ),
    )?;
    // SAFETY: this driver's object; declared after the device, so dropped before it.
    let mut claim = unsafe { Claim::take(driver, &device, settings) }?;
    card.identify()?;
    // Whatever ran before us: silent and empty.
    card.reset();
    let physical = claim.report_detected()?;

    let line = Line::translate(settings.line)?;
    device.initialize_dpc(Some(service::dpc));
    // SAFETY: card and DPC, all that the ISR uses, are there; declared after the device, so dropped before it.
    let interrupt = unsafe { Interrupt::connect(physical, line, Some(service::isr), &device) }?;
    let link = Link::create()?;

    // From here on nothing fails.
    dispatch::enter(driver);
    driver.DriverUnload = Some(unload);
    wdk::println!(
        "squall: card at port {:#x}, line {}, vector {:#x}, IRQL {}",
        settings.io_port_base,
        settings.line,
        line.vector,
        line.irql
    );
    interrupt.synchronize(|| card.enable_interrupts());
    // SAFETY: this is DriverEntry, and it is the only call.
    unsafe { device.extension().hold(Held { claim, interrupt, link }) };
    device.leave();
    Ok(())
}

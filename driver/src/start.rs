//! DriverEntry: what a legacy driver needs before its device may interrupt, in the order that needs it.

use squall_driver_pure::Line;
use wdk_sys::{DRIVER_OBJECT, PCUNICODE_STRING, PDEVICE_OBJECT, PVOID, STATUS_INSUFFICIENT_RESOURCES};

#[cfg(feature = "defects")]
use crate::defect::{self, Defect, Misplaced};
use crate::{
    card::Card,
    clock::{self, Heartbeat},
    dispatch,
    extension::Extension,
    grant,
    held::Held,
    nt::{
        claim::Claim,
        configuration::Counted,
        contiguous::Contiguous,
        controller::Controller,
        device::Device,
        device_map::MappedName,
        dma::{Adapter, CommonBuffer},
        interrupt::Interrupts,
        io_timer::IoTimer,
        line,
        link::Link,
        lookaside::Lookaside,
        lower::Attached,
        mapping::Mapping,
        status::Result,
        thread::Thread,
        timer::Timer,
        work_item::WorkItem,
    },
    parameters::{self, Place},
    recorder::{self, Recording},
    saver::{self, ServiceKey},
    service,
    unload::{self, unload},
    watch,
};

/// Brings the driver up. Where something fails, Unload's own steps give back what there is by then.
///
/// # Safety
///
/// As for [`driver_entry`](crate::driver_entry).
pub(crate) unsafe fn start(driver: &mut DRIVER_OBJECT, registry_path: PCUNICODE_STRING) -> Result<()> {
    let mut held = Held::default();
    // SAFETY: DriverEntry's own arguments.
    match unsafe { bring_up(driver, registry_path, &mut held) } {
        Ok(extension) => {
            // SAFETY: the device is not deleted before Unload.
            let extension = unsafe { &*extension };
            // SAFETY: this is DriverEntry, and it is the only call.
            unsafe { extension.hold(held) };
            Ok(())
        }
        Err(status) => {
            unload::take_down(&mut held);
            Err(status)
        }
    }
}

/// # Safety
///
/// As above. What `held` has in the end stays until Unload, or is taken down.
unsafe fn bring_up(
    driver: &mut DRIVER_OBJECT,
    registry_path: PCUNICODE_STRING,
    held: &mut Held,
) -> Result<*const Extension> {
    // What the registry says.
    // SAFETY: DriverEntry's own argument.
    let parameters = unsafe { parameters::open(registry_path) }?;
    let place = parameters::place(&parameters)?;
    let read_timeout = parameters::read_timeout(&parameters)?;
    #[cfg(feature = "defects")]
    let defect = Defect::chosen(&parameters)?;
    drop(parameters);
    // SAFETY: as above.
    let key_name = held.key_name.insert(unsafe { saver::copy_name(registry_path) }?);
    let service_key = ServiceKey::of(key_name);

    // Where the card is. A PCI card is the plug and play manager's to give, an ISA card the driver's to claim.
    let (card, granted) = match place {
        // SAFETY: nothing touches the card before the claim below, or after it was given back.
        Place::Isa(settings) => (unsafe { Card::at_port(settings.io_port_base) }, None),
        Place::Pci => {
            let (physical, granted) = grant::ask(held.opened.insert(grant::open_claim()?))?;
            // SAFETY: registers of the card, which was given to this driver.
            let mapping = unsafe { Mapping::map(granted.registers, granted.length as usize) }?;
            let registers = held.registers.insert(mapping);
            // SAFETY: mapped until Unload.
            (unsafe { Card::at_memory(registers.start()) }, Some((physical, granted)))
        }
    };

    // The device object, and in its extension what the driver's routines share.
    #[cfg(feature = "defects")]
    let misplaced = *{
        held.misplaced = Misplaced::allocate(defect)?;
        &held.misplaced
    };
    let device = Device::create(driver, |device| {
        #[cfg(feature = "defects")]
        misplaced.fill_in(device, card);
        Extension::new(
            device,
            card,
            read_timeout,
            #[cfg(feature = "defects")]
            defect,
            #[cfg(feature = "defects")]
            misplaced,
        )
    })?;
    let device = held.device.insert(device);
    let context = device.as_ptr();
    let extension = device.extension();
    // SAFETY: in the extension, which does not move, and nobody uses them yet.
    unsafe { extension.initialize_events() };

    // The card's resources, and the device below.
    let isa_line: [Line; 1];
    let (physical, lines): (PDEVICE_OBJECT, &[Line]) = match (place, &granted) {
        (Place::Isa(settings), _) => {
            // SAFETY: this driver's object; given back before the device is deleted.
            let claim = held.claim.insert(unsafe { Claim::take(driver, device, settings) }?);
            card.identify()?;
            let physical = claim.report_detected()?;
            isa_line = [line::translate(settings.line)?];
            (physical, &isa_line)
        }
        (Place::Pci, Some((physical, granted))) => {
            card.identify()?;
            (*physical, granted.lines())
        }
        (Place::Pci, None) => return Err(STATUS_INSUFFICIENT_RESOURCES),
    };
    // Whatever ran before us: silent and empty. From here on it is this driver's to silence.
    card.reset();
    held.card = Some(card);
    let target = held.opened.as_ref().map_or(physical, |opened| opened.device());
    // SAFETY: it exists, as the plug and play manager's or as an open device; detached before the device is deleted.
    let lower = held.lower.insert(unsafe { Attached::attach(device, target) }?).as_ptr();

    // What the driver's other routines work with.
    let controller = held.controller.insert(Controller::create()?).handle();
    // SAFETY: in memory that does not move before Unload; every open block is back by then.
    let opens = held.opens.insert(unsafe { Lookaside::initialize(&extension.objects().opens) }).handle();
    let work_item = held.saver.insert(WorkItem::allocate(device)?).handle();
    let recording = held.recording.insert(Contiguous::allocate(recorder::KEPT)?);
    // SAFETY: Unload takes it away before it frees the memory.
    *extension.recording.lock() = unsafe { Recording::to(recording) };
    // SAFETY: this is DriverEntry, and none of the routines can run yet.
    unsafe {
        extension.set_up(|set_up| {
            set_up.controller = controller;
            set_up.opens = opens;
            set_up.saver = work_item;
            set_up.service_key = service_key;
            set_up.lower = lower;
        });
    }

    // What the card could see of the driver, if it were a bus master. On ISA it is a device of this driver's alone.
    let master = if granted.is_some() { physical } else { core::ptr::null_mut() };
    // SAFETY: null, or the plug and play manager's and with this driver on top.
    let adapter = held.adapter.insert(unsafe { Adapter::get(master) }?);
    // SAFETY: Unload frees it before it gives the adapter back.
    let heartbeat =
        held.heartbeat.insert(unsafe { CommonBuffer::allocate(adapter, Heartbeat::new()) }?).handle();
    // SAFETY: this is DriverEntry, and none of the routines can run yet.
    unsafe { extension.set_up(|set_up| set_up.heartbeat = heartbeat) };

    // The names by which it is found, and the count.
    held.mapped_name = Some(MappedName::write()?);
    held.link = Some(Link::create()?);
    held.counted = Some(Counted::in_one());

    // The routines that run of their own accord: from here on each may be called at once.
    // SAFETY: what it uses is there; Unload has it terminate.
    held.recorder =
        Some(unsafe { Thread::begin(recorder::record, context.cast(), || extension.stop.set()) }?);
    device.initialize_dpc(Some(service::dpc));
    let arrivals: PVOID = core::ptr::from_ref(extension.arrivals()).cast_mut().cast();
    // SAFETY: in memory that does not move before Unload, which takes it out of the queue.
    unsafe { extension.objects().tally.initialize(Some(service::tally), arrivals) };
    #[cfg(feature = "defects")]
    defect::importance(extension);
    // SAFETY: what it uses is there; Unload stops it.
    held.io_timer = Some(unsafe { IoTimer::start(device, Some(clock::each_second)) }?);
    #[cfg(not(feature = "defects"))]
    let isr = service::isr;
    #[cfg(feature = "defects")]
    let isr = defect::isr(defect);
    // SAFETY: card and DPCs, all that the ISR uses, are there; Unload disconnects it.
    let interrupts =
        unsafe { Interrupts::connect(physical, lines, Some(isr), arrivals, &extension.isr_lock) }?;
    let interrupts = held.interrupts.insert(interrupts);

    // From here on nothing fails.
    dispatch::enter(driver);
    driver.DriverUnload = Some(unload);
    for line in lines {
        wdk::println!("squall: {card:?}, vector {:#x}, IRQL {}", line.vector, line.irql);
    }
    interrupts.synchronize(|| card.enable_interrupts());
    // SAFETY: in memory that does not move before Unload, which cancels it.
    held.watch = Some(unsafe {
        Timer::start(&extension.objects().watch, watch::PERIOD, Some(watch::look), context.cast())
    });
    Ok(extension)
}

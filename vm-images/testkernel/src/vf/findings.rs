//! The Verifier: what a driver did wrong that did not stop the system.
//!
//! After Unload has returned or DriverEntry has failed, and before the image goes, everything that still leads to the
//! driver is listed, by [`FindingKind`].

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use squall_testkernel_pure::agent::answers::Finding;
use squall_testkernel_pure::agent::finding_kind::FindingKind;
use squall_testkernel_pure::pool::{Block, Kind};
use squall_testkernel_pure::resources::Resource;
use squall_testkernel_pure::utf16;

use crate::cm;
use crate::dbg::callback;
use crate::etw;
use crate::ex::{self, lookaside, pool, resource as resource_lock, timer as executive_timer};
use crate::io::driver::Loaded;
use crate::io::{device, dma, file, interface, resource, unload, wmi};
use crate::ke::{bugcheck_callback, dpc, interrupt, nmi, processor_change, timer};
use crate::mm::{contiguous, mdl, reserved, section_object};
use crate::nt::{DEVICE_OBJECT, DRIVER_OBJECT, FILE_OBJECT};
use crate::ob::{filter, names};
use crate::po;
use crate::ps;
use crate::se::subject;
use crate::vf::deleted_devices::{self, Access};
use crate::vf::{entries, noted};

/// The most findings of one kind; a driver that leaks a thousand blocks needs no thousand lines.
const MAX_OF_A_KIND: usize = 32;

/// What the kernel makes of pool on a driver's behalf, and what it is to have been left.
const OBJECTS: [(FindingKind, Kind); 6] = [
    (FindingKind::IrpLeft, Kind::Irp),
    (FindingKind::MdlLeft, Kind::Mdl),
    (FindingKind::WorkItemLeft, Kind::WorkItem),
    (FindingKind::ControllerLeft, Kind::Controller),
    (FindingKind::ErrorLogEntryLeft, Kind::ErrorLogEntry),
    (FindingKind::PoolLeft, Kind::Plain),
];

/// Everything that still leads to a driver whose Unload has returned, or whose DriverEntry has failed.
pub fn left_behind(driver: &Loaded) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |kind: FindingKind, objects: Vec<(String, String)>| {
        let kept = objects.into_iter().take(MAX_OF_A_KIND);
        findings.extend(kept.map(|(object, detail)| Finding {
            kind,
            object,
            detail,
            stricter_than_windows: true,
        }));
    };
    found(FindingKind::InterruptLeftConnected, interrupts(driver));
    found(FindingKind::TimerLeftRunning, timers(driver));
    found(FindingKind::DpcLeftQueued, dpcs(driver));
    found(FindingKind::BugcheckCallbackLeft, bugcheck_callbacks(driver));
    found(FindingKind::NmiCallbackLeft, nmi_callbacks(driver));
    found(FindingKind::DebugPrintCallbackLeft, print_callbacks(driver));
    found(FindingKind::NotifyRoutineLeft, notify_routines(driver));
    found(FindingKind::RegistryCallbackLeft, registry_callbacks(driver));
    found(FindingKind::CallbackRegistrationLeft, registrations(driver));
    found(FindingKind::ObjectCallbackLeft, object_callbacks(driver));
    found(FindingKind::SystemThreadLeft, threads(driver));
    found(FindingKind::DeviceObjectLeft, devices(driver));
    found(FindingKind::SymbolicLinkLeft, links(driver));
    found(FindingKind::FileReferenceLeft, files(driver));
    for (finding, kind) in OBJECTS {
        found(finding, allocations(driver, kind));
    }
    for held in dma::held_by(&driver.range) {
        found(held.kind, Vec::from([(held.object, held.detail)]));
    }
    let inits = [
        (FindingKind::LookasideListLeft, &lookaside::LISTS, "it was not deleted, and what it keeps is lost"),
        (FindingKind::EresourceLeft, &resource_lock::RESOURCES, "ExDeleteResourceLite was not called"),
        (
            FindingKind::MappingAddressLeft,
            &reserved::HELD,
            "addresses are still set aside: MmFreeMappingAddress was not called",
        ),
        (
            FindingKind::MappingLeft,
            &contiguous::MAPPED,
            "device memory is still mapped: MmUnmapIoSpace was not called",
        ),
        (
            FindingKind::MappingLeft,
            &mdl::LEFT_MAPPED,
            "the pages of an MDL are still mapped: neither MmUnmapLockedPages nor MmUnlockPages was called",
        ),
        (FindingKind::ExecutiveTimerLeft, &executive_timer::TIMERS, "ExDeleteTimer was not called"),
        (
            FindingKind::ViewLeft,
            &section_object::MAPPED,
            "a section is still mapped there: ZwUnmapViewOfSection was not called",
        ),
        (
            FindingKind::ContiguousMemoryLeft,
            &contiguous::ALLOCATED,
            "contiguous or non-cached memory was not freed",
        ),
        (FindingKind::SubjectContextLeft, &subject::CAPTURED, "SeReleaseSubjectContext was not called"),
    ];
    for (kind, census, detail) in inits {
        let describe = |object: usize| (format!("0x{object:x}"), String::from(detail));
        found(kind, census.of(&driver.range).into_iter().map(describe).collect());
    }
    let (names, counts) = entries::left(driver.object);
    found(FindingKind::DeviceMapNameLeft, names.into_iter().map(|name| (name, in_device_map())).collect());
    found(FindingKind::ConfigurationCountKept, counts.into_iter().map(count).collect());
    let interfaces = interface::left_by(driver.object, &driver.range);
    for (kind, object, detail) in po::left_by(&driver.range).into_iter().chain(interfaces) {
        found(kind, Vec::from([(object, detail.into())]));
    }
    found(FindingKind::ResourceClaimLeft, claims(driver));
    found(FindingKind::EventProviderLeft, providers(driver));
    found(FindingKind::ProcessorChangeCallbackLeft, processor_callbacks(driver));
    found(FindingKind::WmiRegistrationLeft, wmi_providers(driver));
    for (kind, object, detail) in noted::take(&driver.range) {
        found(kind, Vec::from([(object, detail)]));
    }
    found(FindingKind::DeletedDeviceTouched, deleted(driver));
    findings
}

fn providers(driver: &Loaded) -> Vec<(String, String)> {
    let detail = "EtwUnregister was not called";
    let left = etw::registered_by(&driver.range).into_iter();
    left.map(|handle| (format!("event provider {handle}"), detail.into())).collect()
}

fn processor_callbacks(driver: &Loaded) -> Vec<(String, String)> {
    let describe = |(_, routine): (usize, u64)| {
        let object = format!("routine {}+0x{:x}", driver.name, routine - driver.range.start);
        (object, "it is about to go, and KeDeregisterProcessorChangeCallback was not called".into())
    };
    processor_change::leading_into(&driver.range).into_iter().map(describe).collect()
}

fn wmi_providers(driver: &Loaded) -> Vec<(String, String)> {
    let describe = |provider| {
        let detail = "IoWMIRegistrationControl was not called with WMIREG_ACTION_DEREGISTER: it is referenced for ever";
        (unload::name_of(provider), detail.into())
    };
    wmi::registered_by(&driver.range).into_iter().map(describe).collect()
}

fn interrupts(driver: &Loaded) -> Vec<(String, String)> {
    let left = interrupt::connected_in(driver.range.clone());
    let detail = "its ISR lies in the image that is about to go; IoDisconnectInterruptEx was not called";
    left.into_iter().map(|object| (object, detail.into())).collect()
}

fn timers(driver: &Loaded) -> Vec<(String, String)> {
    let describe = |(timer, routine): (usize, u64)| {
        let offset = routine - driver.range.start;
        let detail =
            format!("its DPC at {}+0x{offset:x} is about to go: KeCancelTimer was not called", driver.name);
        (format!("timer 0x{timer:x}"), detail)
    };
    timer::leading_into(&driver.range).into_iter().map(describe).collect()
}

fn dpcs(driver: &Loaded) -> Vec<(String, String)> {
    let describe = |(dpc, routine): (usize, u64)| {
        let offset = routine - driver.range.start;
        let detail = format!("queued, and its routine at {}+0x{offset:x} is about to go", driver.name);
        (format!("DPC 0x{dpc:x}"), detail)
    };
    dpc::queued_leading_into(&driver.range).into_iter().map(describe).collect()
}

fn bugcheck_callbacks(driver: &Loaded) -> Vec<(String, String)> {
    let describe = |(record, routine): (usize, u64)| {
        let offset = routine - driver.range.start;
        let detail = format!(
            "its routine at {}+0x{offset:x} is about to go: KeDeregisterBugCheckCallback, or its kin, was not called",
            driver.name
        );
        (format!("bug check record 0x{record:x}"), detail)
    };
    bugcheck_callback::leading_into(&driver.range).map(describe).collect()
}

fn print_callbacks(driver: &Loaded) -> Vec<(String, String)> {
    let describe = |(routine, _): (usize, u64)| {
        let detail = "it is about to go, and DbgSetDebugPrintCallback was not called to take it back";
        (format!("routine {}+0x{:x}", driver.name, routine as u64 - driver.range.start), detail.into())
    };
    callback::leading_into(&driver.range).into_iter().map(describe).collect()
}

fn notify_routines(driver: &Loaded) -> Vec<(String, String)> {
    let describe = |(routine, undo): (u64, &str)| {
        let object = format!("routine {}+0x{:x}", driver.name, routine - driver.range.start);
        (object, format!("it is about to go, and {undo} was not called to take it back"))
    };
    ps::notify::leading_into(&driver.range).into_iter().map(describe).collect()
}

fn registry_callbacks(driver: &Loaded) -> Vec<(String, String)> {
    let describe = |routine: u64| {
        let object = format!("routine {}+0x{:x}", driver.name, routine - driver.range.start);
        (object, "it is about to go, and CmUnRegisterCallback was not called".into())
    };
    cm::callback::leading_into(&driver.range).into_iter().map(describe).collect()
}

fn registrations(driver: &Loaded) -> Vec<(String, String)> {
    let describe = |(handle, routine): (usize, u64)| {
        let offset = routine - driver.range.start;
        let detail = format!(
            "its routine at {}+0x{offset:x} is about to go: ExUnregisterCallback was not called",
            driver.name
        );
        (format!("registration 0x{handle:x}"), detail)
    };
    ex::callback::leading_into(&driver.range).into_iter().map(describe).collect()
}

fn object_callbacks(driver: &Loaded) -> Vec<(String, String)> {
    let describe = |(_, routine): (usize, u64)| {
        let object = format!("routine {}+0x{:x}", driver.name, routine - driver.range.start);
        (object, "it is about to go, and ObUnRegisterCallbacks was not called".into())
    };
    filter::leading_into(&driver.range).into_iter().map(describe).collect()
}

fn nmi_callbacks(driver: &Loaded) -> Vec<(String, String)> {
    let describe = |(handle, routine): (usize, u64)| {
        let offset = routine - driver.range.start;
        let detail = format!(
            "its routine at {}+0x{offset:x} is about to go: KeDeregisterNmiCallback was not called",
            driver.name
        );
        (format!("NMI callback 0x{handle:x}"), detail)
    };
    nmi::leading_into(&driver.range).into_iter().map(describe).collect()
}

fn threads(driver: &Loaded) -> Vec<(String, String)> {
    let detail =
        "it has not ended, and the code that it returns to is about to go: Unload did not wait for it";
    let left = ps::thread::RUNNING.of(&driver.range);
    left.into_iter().map(|thread| (format!("thread 0x{thread:x}"), detail.into())).collect()
}

fn in_device_map() -> String {
    "DriverEntry wrote it to the registry's DeviceMap, and it is still there".into()
}

fn count((name, left): (&'static str, i64)) -> (String, String) {
    (name.into(), format!("DriverEntry raised it, and it is still {left} too high"))
}

fn devices(driver: &Loaded) -> Vec<(String, String)> {
    let object = core::ptr::with_exposed_provenance_mut::<DRIVER_OBJECT>(driver.object);
    // SAFETY: the driver object is given up after its findings are collected.
    let left = unsafe { device::of_driver(object) };
    let describe = |(address, deleted)| {
        let detail = if deleted {
            "deleted, and still open or referenced: the driver object cannot go, and the image stays"
        } else {
            "IoDeleteDevice was not called: the driver object cannot go, and the image stays"
        };
        let attached = device::attached_to(address).map(unload::name_of);
        let attached =
            attached.map_or_else(String::new, |below| format!("; it is still attached to {below}"));
        (unload::name_of(address), format!("{detail}{attached}"))
    };
    left.into_iter().map(describe).collect()
}

fn links(driver: &Loaded) -> Vec<(String, String)> {
    names::with(|names| {
        let mine = names.links_of(|owner| driver.range.contains(&(owner as u64)));
        let describe = |(link, target): (&[u16], &[u16])| {
            let detail =
                format!("still leads to {}: IoDeleteSymbolicLink was not called", utf16::display(target));
            (utf16::display(link), detail)
        };
        mine.map(describe).collect()
    })
}

fn files(driver: &Loaded) -> Vec<(String, String)> {
    let describe = |address: usize| {
        // SAFETY: the file is held, so it is alive, and so is its device.
        let device = unsafe { (*core::ptr::with_exposed_provenance::<FILE_OBJECT>(address)).DeviceObject };
        let detail =
            "still referenced: ObDereferenceObject was not called on the file of IoGetDeviceObjectPointer";
        (format!("file object 0x{address:x} of {}", unload::name_of(device.addr())), detail.into())
    };
    file::held_by(&driver.range).into_iter().map(describe).collect()
}

fn allocations(driver: &Loaded, kind: Kind) -> Vec<(String, String)> {
    let describe = |block: &Block| {
        let tag =
            block.tag.to_le_bytes().map(|byte| if byte.is_ascii_graphic() { byte as char } else { '.' });
        let tag = String::from_iter(tag);
        let offset = block.caller as u64 - driver.range.start;
        let detail = format!("{} bytes, tag {tag}, allocated at {}+0x{offset:x}", block.size, driver.name);
        (format!("0x{:x}", block.address), detail)
    };
    pool::allocated_by(&driver.range).iter().filter(|block| block.kind == kind).map(describe).collect()
}

fn deleted(driver: &Loaded) -> Vec<(String, String)> {
    let describe = |access: Access| {
        let extension = (size_of::<DEVICE_OBJECT>() as u64..).contains(&access.offset);
        let part = if extension { "extension" } else { "object" };
        let by = match access.by.checked_sub(driver.range.start) {
            Some(offset) if driver.range.contains(&access.by) => format!("{}+0x{offset:x}", driver.name),
            _ => format!("0x{:x}", access.by),
        };
        let detail =
            format!("its {part} was touched, at offset 0x{:x}, by {by} after IoDeleteDevice", access.offset);
        (format!("device 0x{:x}", access.device), detail)
    };
    deleted_devices::accesses(&driver.range).into_iter().map(describe).collect()
}

fn claims(driver: &Loaded) -> Vec<(String, String)> {
    let left = resource::claimed_by(driver.object);
    resource::forget(driver.object);
    let describe = |resource| match resource {
        Resource::Ports { start, length } => {
            format!("ports 0x{start:x} to 0x{:x}", start + u64::from(length) - 1)
        }
        Resource::Memory { start, length } => format!("memory 0x{start:x}, {length} bytes"),
        Resource::Line(line) => format!("interrupt line {line}"),
    };
    let detail = "still claimed: IoReportResourceForDetection was not called with an empty list";
    left.into_iter().map(|claim| (describe(claim.resource), detail.into())).collect()
}

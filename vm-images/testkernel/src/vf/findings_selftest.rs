//! Each finding is raised by what it is about, and by nothing else.

use alloc::vec::Vec;

use squall_testkernel_pure::agent::finding_kind::FindingKind;
use squall_testkernel_pure::utf16;

use super::{entries, findings};
use crate::io::driver::{self, Loaded};
use crate::ke::irql::{self, Irql};
use crate::ke::thread;
use crate::nt::{DRIVER_OBJECT, DRVO_LEGACY_DRIVER, UNICODE_STRING};
use crate::ob;
use crate::selftest::victim::Victim;
use crate::selftest::{check, kernel_test};

/// Far enough away.
const HOUR: usize = -36_000_000_000_i64 as usize;
const DEVICE_MAP: usize = 4;

/// A driver with an object, unverified.
struct Subject {
    victim: Victim,
    loaded: Loaded,
}

impl Subject {
    fn load() -> Option<Self> {
        let victim = Victim::load(0);
        let object = driver::create("victim", DRVO_LEGACY_DRIVER).ok()?;
        let range = victim.range();
        // SAFETY: the object is new, and nobody else has it.
        unsafe { (*object).DriverStart = core::ptr::with_exposed_provenance_mut(range.start as usize) };
        let object = object.expose_provenance();
        let loaded = Loaded { object, name: "victim.sys".into(), entry: range.start, range, unload: None };
        Some(Self { victim, loaded })
    }

    fn call(&self, name: &str, arguments: &[usize]) -> usize {
        self.victim.call(name, arguments)
    }

    /// The kinds of what is found now.
    fn found(&self) -> Vec<FindingKind> {
        findings::left_behind(&self.loaded).into_iter().map(|finding| finding.kind).collect()
    }

    /// Whether exactly this is found.
    fn finds(&self, kind: FindingKind) -> bool {
        self.found() == [kind]
    }

    /// Whether `kind` is found after a call that gives an object, and nothing once that is undone.
    fn finds_until(&self, kind: FindingKind, make: (&str, &[usize]), undo: &str) -> bool {
        let made = self.call(make.0, make.1);
        let found = made != 0 && self.finds(kind);
        self.call(undo, &[made, 0x1000]);
        found && self.found().is_empty()
    }
}

fn string(units: &[u16]) -> UNICODE_STRING {
    let bytes = (units.len() * 2) as u16;
    UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: units.as_ptr().cast_mut() }
}

kernel_test! {
    fn what_a_driver_leaves_is_found_and_what_it_gives_back_is_not() {
        let Some(subject) = Subject::load() else { check!(false); return Ok(()) };
        let (data, nothing) = (subject.victim.data(), subject.victim.nothing() as usize);
        check!(subject.found().is_empty());
        check!(subject.finds_until(FindingKind::PoolLeft, ("ExAllocatePoolWithTag", &[0, 40, 7]), "ExFreePool"));
        check!(subject.finds_until(FindingKind::IrpLeft, ("IoAllocateIrp", &[1, 0]), "IoFreeIrp"));
        check!(subject.finds_until(FindingKind::MdlLeft, ("IoAllocateMdl", &[data, 8, 0, 0, 0]), "IoFreeMdl"));
        check!(subject.finds_until(FindingKind::ControllerLeft, ("IoCreateController", &[64]), "IoDeleteController"));
        let object = subject.loaded.object;
        check!(subject.finds_until(FindingKind::WorkItemLeft, ("IoAllocateWorkItem", &[object]), "IoFreeWorkItem"));
        let entry = ("IoAllocateErrorLogEntry", &[object, 64] as &[usize]);
        check!(subject.finds_until(FindingKind::ErrorLogEntryLeft, entry, "IoFreeErrorLogEntry"));
        check!(subject.finds_until(FindingKind::MappingLeft, ("MmMapIoSpace", &[0xFEC0_0000, 0x1000, 0]), "MmUnmapIoSpace"));
        check!(subject.finds_until(FindingKind::PowerRequestLeft, ("PoRegisterSystemState", &[0, 1]), "PoUnregisterSystemState"));
        check!(subject.finds_until(FindingKind::MappingAddressLeft, ("MmAllocateMappingAddress", &[0x2000, 0x1000]), "MmFreeMappingAddress"));
        let contiguous = ("MmAllocateContiguousMemory", &[0x1000, usize::MAX >> 1] as &[usize]);
        check!(subject.finds_until(FindingKind::ContiguousMemoryLeft, contiguous, "MmFreeContiguousMemory"));
        check!(subject.finds_until(FindingKind::ContiguousMemoryLeft, ("MmAllocateNonCachedMemory", &[64]), "MmFreeNonCachedMemory"));

        subject.call("ExInitializeNPagedLookasideList", &[data, 0, 0, 0, 64, 7, 0]);
        check!(subject.finds(FindingKind::LookasideListLeft));
        subject.call("ExDeleteNPagedLookasideList", &[data]);
        subject.call("ExInitializeResourceLite", &[data]);
        check!(subject.finds(FindingKind::EresourceLeft));
        subject.call("ExDeleteResourceLite", &[data]);
        let memory = utf16::encode(r"\Device\PhysicalMemory");
        let Ok((memory, _)) = ob::names::with(|names| names.resolve(&memory)) else { check!(false); return Ok(()) };
        let (base, size) = (data, data + 8);
        (0..16).for_each(|byte| subject.victim.write(base + byte, 0));
        subject.victim.write(size + 1, 0x10);
        check!(subject.call("MmMapViewInSystemSpace", &[memory, base, size]) == 0);
        check!(subject.finds(FindingKind::ViewLeft));
        let at = (0..8).rev().fold(0, |at, byte| at << 8 | usize::from(subject.victim.read(base + byte)));
        check!(subject.call("MmUnmapViewInSystemSpace", &[at]) == 0 && subject.found().is_empty());
        subject.call("SeCaptureSubjectContext", &[data]);
        check!(subject.finds(FindingKind::SubjectContextLeft));
        subject.call("SeReleaseSubjectContext", &[data]);

        let cookie = data + 0x400;
        check!(subject.call("CmRegisterCallback", &[nothing, 0, cookie]) == 0 && subject.finds(FindingKind::RegistryCallbackLeft));
        let number = (0..8).rev().fold(0, |number, byte| number << 8 | usize::from(subject.victim.read(cookie + byte)));
        check!(subject.call("CmUnRegisterCallback", &[number]) == 0 && subject.found().is_empty());
        let executive = subject.call("ExAllocateTimer", &[0, 0, 0]);
        check!(subject.finds(FindingKind::ExecutiveTimerLeft));
        subject.call("ExDeleteTimer", &[executive, 1, 1, 0]);
        check!(subject.found().is_empty());
        let place = data + 0x80;
        check!(subject.call("ExCreateCallback", &[place, 0, 1, 1]) == 0);
        let callback = (0..8).rev().fold(0, |at, byte| at << 8 | usize::from(subject.victim.read(place + byte)));
        let registration = ("ExRegisterCallback", &[callback, nothing, 0] as &[usize]);
        check!(subject.finds_until(FindingKind::CallbackRegistrationLeft, registration, "ExUnregisterCallback"));
        ob::dereference(callback);
        let list = subject.call("IoAllocateMdl", &[data, 8, 0, 0, 0]);
        subject.call("MmBuildMdlForNonPagedPool", &[list]);
        let mapped = subject.call("MmMapLockedPagesSpecifyCache", &[list, 0, 1, 0, 0, 16]);
        check!(mapped != 0 && subject.found().contains(&FindingKind::MappingLeft));
        subject.call("MmUnmapLockedPages", &[mapped, list]);
        check!(subject.finds(FindingKind::MdlLeft));
        subject.call("IoFreeMdl", &[list]);

        let (timer, dpc) = (data + 0x100, data + 0x200);
        subject.call("KeInitializeDpc", &[dpc, nothing, 0]);
        subject.call("KeInitializeTimer", &[timer]);
        subject.call("KeSetTimer", &[timer, HOUR, dpc]);
        check!(subject.finds(FindingKind::TimerLeftRunning));
        subject.call("KeCancelTimer", &[timer]);
        let old = irql::raise(Irql::DISPATCH);
        subject.call("KeInsertQueueDpc", &[dpc, 0, 0]);
        let found = subject.finds(FindingKind::DpcLeftQueued);
        irql::lower(old);
        check!(found && subject.found().is_empty());

        let record = data + 0x300;
        for (reason, name) in [(2, "KeRegisterBugCheckReasonCallback"), (0, "KeRegisterBugCheckCallback")] {
            check!(subject.call(name, &[record, nothing, reason, 0, 0]) & 0xFF == 1);
            check!(subject.finds(FindingKind::BugcheckCallbackLeft));
            subject.call(&name.replace("KeRegister", "KeDeregister"), &[record]);
        }
        check!(subject.finds_until(FindingKind::NmiCallbackLeft, ("KeRegisterNmiCallback", &[nothing, 0]), "KeDeregisterNmiCallback"));
        let change = ("KeRegisterProcessorChangeCallback", &[nothing, 0, 0] as &[usize]);
        check!(subject.finds_until(FindingKind::ProcessorChangeCallbackLeft, change, "KeDeregisterProcessorChangeCallback"));
        // WMIREG_ACTION_REGISTER and WMIREG_ACTION_DEREGISTER of a routine.
        subject.call("IoWMIRegistrationControl", &[nothing, 0x8000_0001]);
        check!(subject.finds(FindingKind::WmiRegistrationLeft));
        subject.call("IoWMIRegistrationControl", &[nothing, 0x8000_0002]);
        subject.call("DbgSetDebugPrintCallback", &[nothing, 1]);
        check!(subject.finds(FindingKind::DebugPrintCallbackLeft));
        subject.call("DbgSetDebugPrintCallback", &[nothing, 0]);
        for (set, undo) in [
            ("PsSetCreateThreadNotifyRoutine", "PsRemoveCreateThreadNotifyRoutine"),
            ("PsSetLoadImageNotifyRoutine", "PsRemoveLoadImageNotifyRoutine"),
            ("PsSetCreateProcessNotifyRoutine", "PsSetCreateProcessNotifyRoutine"),
        ] {
            check!(subject.call(set, &[nothing, 0]) == 0 && subject.finds(FindingKind::NotifyRoutineLeft));
            check!(subject.call(undo, &[nothing, 1]) == 0 && subject.found().is_empty());
        }

        let (link, target) = (utf16::encode(r"\??\VictimLink"), utf16::encode(r"\Device\Victim"));
        let (link, target) = (string(&link), string(&target));
        let address = |string: &UNICODE_STRING| core::ptr::from_ref(string).expose_provenance();
        subject.call("IoCreateSymbolicLink", &[address(&link), address(&target)]);
        check!(subject.finds(FindingKind::SymbolicLinkLeft));
        subject.call("IoDeleteSymbolicLink", &[address(&link)]);
        check!(subject.found().is_empty());
        check!(ob::dereference(object) == Some(0));
        subject.victim.unload();
    }

    fn a_thread_that_runs_is_found_until_it_ends() {
        let Some(subject) = Subject::load() else { check!(false); return Ok(()) };
        let (data, wait) = (subject.victim.data(), subject.victim.wait() as usize);
        check!(subject.call("PsCreateSystemThread", &[data + 8, 0, 0, 0, 0, wait, data]) == 0);
        check!(subject.finds(FindingKind::SystemThreadLeft));
        subject.victim.write(data, 1);
        for _ in 0..1000 {
            if subject.found().is_empty() {
                break;
            }
            thread::sleep_ns(1_000_000);
        }
        check!(subject.found().is_empty());
        // SAFETY: the handle that the call above wrote.
        let handle = unsafe { core::ptr::with_exposed_provenance::<usize>(data + 8).read() };
        subject.call("ZwClose", &[handle]);
        check!(ob::dereference(subject.loaded.object) == Some(0));
        subject.victim.unload();
    }

    fn a_device_is_found_and_so_is_who_touches_it_when_it_is_gone() {
        let Some(subject) = Subject::load() else { check!(false); return Ok(()) };
        let (data, object) = (subject.victim.data(), subject.loaded.object);
        check!(subject.call("IoCreateDevice", &[object, 100, 0, 0x22, 0, 0, data]) == 0);
        check!(subject.finds(FindingKind::DeviceObjectLeft));
        // SAFETY: the device that the call above wrote, which is alive.
        let (device, extension) = unsafe {
            let device = core::ptr::with_exposed_provenance::<*mut crate::nt::DEVICE_OBJECT>(data).read();
            (device.addr(), (*device).DeviceExtension.addr())
        };
        subject.victim.write(extension + 10, 7);
        subject.call("IoDeleteDevice", &[device]);
        check!(subject.found().is_empty());
        check!(subject.victim.read(extension + 10) == 7);
        let told = findings::left_behind(&subject.loaded);
        check!(told.len() == 1 && told[0].kind == FindingKind::DeletedDeviceTouched && told[0].stricter_than_windows);
        check!(told[0].detail.contains("extension") && told[0].detail.contains("victim.sys+0x"));
        check!(ob::dereference(object) == Some(0));
        subject.victim.unload();
    }

    fn names_and_counts_that_driver_entry_enters_are_found() {
        let Some(subject) = Subject::load() else { check!(false); return Ok(()) };
        let name: Vec<u16> = "VictimPort".encode_utf16().chain([0]).collect();
        let path: Vec<u16> = "VICTIM".encode_utf16().chain([0]).collect();
        let at = |units: &[u16]| units.as_ptr().expose_provenance();
        let before = entries::Snapshot::take();
        check!(subject.call("RtlWriteRegistryValue", &[DEVICE_MAP, at(&path), at(&name), 1, at(&name), 22]) == 0);
        let counts = subject.call("IoGetConfigurationInformation", &[]);
        // SAFETY: the first count, of disks.
        unsafe { *core::ptr::with_exposed_provenance_mut::<u32>(counts) += 1 };
        entries::entry_returned(subject.loaded.object, &before);
        entries::unload_begins(subject.loaded.object);
        let found = subject.found();
        check!(found == [FindingKind::DeviceMapNameLeft, FindingKind::ConfigurationCountKept]);
        // SAFETY: as above.
        unsafe { *core::ptr::with_exposed_provenance_mut::<u32>(counts) -= 1 };
        subject.call("RtlDeleteRegistryValue", &[DEVICE_MAP, at(&path), at(&name)]);
        let object: *mut DRIVER_OBJECT = core::ptr::with_exposed_provenance_mut(subject.loaded.object);
        check!(ob::dereference(object.addr()) == Some(0));
        subject.victim.unload();
    }

    fn a_registration_that_a_driver_leaves_is_found_until_it_is_given_up() {
        let Some(subject) = Subject::load() else { check!(false); return Ok(()) };
        let (object, nothing) = (subject.loaded.object, subject.victim.nothing() as usize);
        // Hardware profiles, and a power setting that nobody has a value for: the routine is never called.
        let setting = [0_u8; 16];
        let setting = (&raw const setting).expose_provenance();
        let mut entry = 0_usize;
        let to = (&raw mut entry).expose_provenance();
        let left = FindingKind::PlugPlayNotificationLeft;
        check!(subject.call("IoRegisterPlugPlayNotification", &[1, 0, 0, object, nothing, 0, to]) == 0 && subject.finds(left));
        // SAFETY: the local, which the call has written.
        let entry = || unsafe { core::ptr::with_exposed_provenance::<usize>(to).read_volatile() };
        check!(subject.call("IoUnregisterPlugPlayNotificationEx", &[entry()]) == 0 && subject.found().is_empty());
        let left = FindingKind::PowerSettingCallbackLeft;
        check!(subject.call("PoRegisterPowerSettingCallback", &[0, setting, nothing, 0, to]) == 0 && subject.finds(left));
        check!(subject.found().is_empty());
        check!(ob::dereference(object) == Some(0));
        subject.victim.unload();
    }
}

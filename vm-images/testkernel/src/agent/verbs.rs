//! The verbs of `squall-agent`: a command line in, one JSON object and an exit code out.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Serialize;
use squall_testkernel_pure::agent::answers::{
    self, Address, Driver, Flags, Injection, Installed, Loaded, Memory, Module, Modules, Notified, PoolUse,
    Status, Unloaded, UsageError, Verified, Verifier,
};
use squall_testkernel_pure::agent::verbs::{FailCall, Verb};

use super::services::{self, NotLoaded, NotUnloaded};
use crate::cm;
use crate::ex::{pool, work};
use crate::io::driver::Refusal;
use crate::io::shutdown;
use crate::ke::thread;
use crate::ldr::image::LoadError;
use crate::ldr::inject::{Outcome, Plan, Watch};
use crate::mm::region::Window;
use crate::mm::{frame, heap, modules, special_region};
use crate::nt::{
    NTSTATUS, STATUS_DRIVER_ENTRYPOINT_NOT_FOUND, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_IMAGE_FORMAT,
    STATUS_SUCCESS, STATUS_UNSUCCESSFUL,
};
use crate::vf::classes::{self, Class};
use crate::vf::verified::{self, NotSet};

/// The verb did its work, whatever came of it.
const DONE: i32 = 0;
/// The command line makes no sense, or asks for what the guest lacks.
const USAGE: i32 = 2;

/// Runs one command line.
pub fn run(arguments: &[String]) -> (i32, String) {
    match Verb::parse(arguments) {
        Ok(verb) => perform(verb),
        Err(usage) => refuse(usage.to_string()),
    }
}

fn refuse(error: String) -> (i32, String) {
    (USAGE, text(&UsageError { error }))
}

fn perform(verb: Verb) -> (i32, String) {
    let output = match verb {
        Verb::Install { service, image, parameters } => {
            match services::install(&service, &image, &parameters) {
                Ok(()) => text(&Installed { status: told(STATUS_SUCCESS), refused: None }),
                Err(error) => text(&Installed {
                    status: told(cm::status_of(error)),
                    refused: Some(format!("{service}: {error}")),
                }),
            }
        }
        Verb::Load { service, failure } => text(&load(&service, failure)),
        Verb::Unload(service) => text(&match services::unload(&service) {
            Ok(findings) => {
                Unloaded { status: told(STATUS_SUCCESS), refused: None, findings: Some(findings) }
            }
            Err(NotUnloaded { why, findings }) => {
                Unloaded { status: told(STATUS_UNSUCCESSFUL), refused: Some(why), findings }
            }
        }),
        Verb::Cycle { service, cycles, interrupts } => {
            text(&super::cycles::run(&service, cycles, interrupts))
        }
        Verb::Status(service) => text(&services::status(&service)),
        Verb::Modules => text(&list()),
        Verb::Memory => text(&memory()),
        Verb::Shutdown => text(&Notified { notified: shutdown::notify() }),
        Verb::VerifierQuery => text(&settings()),
        Verb::Verifier { driver, flags } => match verify(&driver, flags) {
            Ok(()) => text(&settings()),
            Err(why) => return refuse(why),
        },
    };
    (DONE, output)
}

fn load(service: &str, failure: Option<FailCall>) -> Loaded {
    let plan = |failure: FailCall| Plan { call: failure.call, status: NTSTATUS::from_bits(failure.status) };
    let watch = failure.map(|failure| Watch::new(plan(failure)));
    let mut answer = answer_of(services::load(service, watch.as_ref()));
    answer.injection = watch.map(|watch| {
        let Outcome { calls, failed } = watch.outcome();
        Injection { calls, failed }
    });
    answer
}

fn answer_of(loaded: Result<Driver, NotLoaded>) -> Loaded {
    let nothing = |status| Loaded {
        status: told(status),
        driver: None,
        missing_imports: Vec::new(),
        invalid_image: None,
        refused: None,
        findings: None,
        injection: None,
    };
    match loaded {
        Ok(driver) => Loaded { driver: Some(driver), ..nothing(STATUS_SUCCESS) },
        Err(NotLoaded::Refused(why)) => Loaded { refused: Some(why), ..nothing(STATUS_UNSUCCESSFUL) },
        Err(NotLoaded::Driver(Refusal::Status(status))) => nothing(status),
        Err(NotLoaded::Driver(Refusal::Entry { status, findings })) => {
            Loaded { findings: Some(findings), ..nothing(status) }
        }
        Err(NotLoaded::Driver(Refusal::Image(error))) => match error {
            LoadError::Invalid(why) => {
                Loaded { invalid_image: Some(why.to_string()), ..nothing(STATUS_INVALID_IMAGE_FORMAT) }
            }
            LoadError::MissingImports(missing_imports) => {
                Loaded { missing_imports, ..nothing(STATUS_DRIVER_ENTRYPOINT_NOT_FOUND) }
            }
            LoadError::NoMemory => {
                let why = "no memory for the image".into();
                Loaded { refused: Some(why), ..nothing(STATUS_INSUFFICIENT_RESOURCES) }
            }
        },
    }
}

/// Sets for what a driver is verified from its next load on.
fn verify(driver: &str, flags: u32) -> Result<(), String> {
    let lacking = flags & !classes::supported_flags();
    if lacking != 0 {
        return Err(format!("verifier: this guest lacks the checks {lacking:#x} asked for {driver}"));
    }
    verified::set(driver, flags).map_err(|why| match why {
        NotSet::TooMany => format!("verifier: {driver}: too many drivers were named, start anew"),
        NotSet::NoMemory => format!("verifier: {driver}: no memory for the settings"),
    })
}

fn settings() -> Verifier {
    let class = |class: &Class| answers::Class { flag: Flags(*class as u32), name: class.name() };
    let setting = |(driver, flags): (&str, u32)| Verified { driver: driver.into(), flags: Flags(flags) };
    Verifier {
        supported: classes::SUPPORTED.iter().map(class).collect(),
        enabled: verified::settings().into_iter().map(setting).collect(),
    }
}

fn memory() -> Memory {
    let (blocks, bytes) = pool::in_use();
    let (heap_bytes, heap_pages) = heap::in_use();
    // Stacks that nobody uses are kept for the next thread, and system worker threads stay: of both there are as many as were
    // ever needed at once, which says nothing of a driver that is gone. Each has a guard page, an address without memory.
    let stacks = work::workers() + thread::spare_stacks();
    Memory {
        pool: PoolUse { blocks, bytes },
        mapped_pages: (Window::Dynamic.taken() + Window::Views.taken())
            .saturating_sub(stacks * (thread::STACK_PAGES + 1)),
        image_pages: Window::Images.taken(),
        heap_bytes,
        // The heap keeps the frames that it once took: what counts of it is what is allocated.
        free_pages: frame::free_count()
            + heap_pages
            + special_region::table_pages()
            + stacks * thread::STACK_PAGES,
    }
}

fn list() -> Modules {
    let (unloaded, loaded): (Vec<_>, Vec<_>) = modules::all().partition(|module| module.unloaded);
    let described = |modules: Vec<modules::Module>| {
        let describe = |module: modules::Module| Module {
            name: module.name().into(),
            base: Address(module.base),
            size: module.size,
        };
        modules.into_iter().map(describe).collect()
    };
    Modules { loaded: described(loaded), unloaded: described(unloaded) }
}

/// Why a driver was not loaded: the status, and one line.
pub(super) fn reason(refused: &NotLoaded) -> (NTSTATUS, String) {
    match refused {
        NotLoaded::Refused(why) => (STATUS_UNSUCCESSFUL, why.clone()),
        NotLoaded::Driver(Refusal::Status(status)) => (*status, "no driver object could be made".into()),
        NotLoaded::Driver(Refusal::Entry { status, .. }) => (*status, "DriverEntry failed".into()),
        NotLoaded::Driver(Refusal::Image(LoadError::Invalid(why))) => {
            (STATUS_INVALID_IMAGE_FORMAT, why.to_string())
        }
        NotLoaded::Driver(Refusal::Image(LoadError::MissingImports(names))) => {
            (STATUS_DRIVER_ENTRYPOINT_NOT_FOUND, format!("no {}", names.join(", ")))
        }
        NotLoaded::Driver(Refusal::Image(LoadError::NoMemory)) => {
            (STATUS_INSUFFICIENT_RESOURCES, "no memory for the image".into())
        }
    }
}

pub(super) fn told(status: NTSTATUS) -> Status {
    Status(status.bits())
}

fn text(answer: &impl Serialize) -> String {
    // Serializing these structures cannot fail; were it to, the host would see that there is no object.
    serde_json::to_string(answer).unwrap_or_default()
}

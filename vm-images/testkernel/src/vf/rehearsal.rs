//! Stops of the Verifier's that do not stop the system, for the kernel's own tests.
//!
//! A test plays a verified driver: it calls through what the loader would bind the driver's imports to, on a thread of its
//! own. Should the Verifier stop the system for what that thread does, the stop is noted and the thread ends instead. What
//! a stop looks like from outside is for a few words of the command line ([`crate::selftest::provoke`]) to show.

use core::ffi::c_void;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::verified::{self, Verified};
use crate::ke::irql::{self, Irql};
use crate::ke::lock::SpinLock;
use crate::ke::thread;
use crate::ldr::export::{self, Module};

/// The thread that plays the driver.
static ACTOR: AtomicUsize = AtomicUsize::new(0);
static NOTED: SpinLock<Option<Stop>> = SpinLock::new(None);

/// A stop: code and parameters.
pub type Stop = (u32, [u64; 4]);

/// What every rehearsal has to be over in.
const PATIENCE_NS: u64 = 5_000_000_000;
/// Addresses that no image has.
const ADDRESSES: u64 = 0xFFFF_F8FD_0000_0000;
const NAME: &str = "rehearsed.sys";

/// A verified driver that is played.
#[derive(Clone, Copy, Debug)]
pub struct Driver(&'static Verified);

impl Driver {
    /// What its import of `name` leads to; the system stops where there is no such export.
    pub fn import(self, name: &str) -> *const c_void {
        let export = export::lookup(Module::Hal, name).or_else(|| export::lookup(Module::Ntoskrnl, name));
        let Some(export) = export else {
            crate::ke::bugcheck::kernel_fault(format_args!("{name}: no such export"), line!())
        };
        let address = export.address().expose_provenance();
        core::ptr::with_exposed_provenance(self.0.bound(name, address))
    }
}

/// What `$driver`'s import of an export leads to, of the export's type.
macro_rules! import {
    ($driver:expr, $($path:ident)::+ : fn($($argument:ty),* $(,)?) $(-> $result:ty)?) => {{
        // Checks the type given here against the export's.
        let export: unsafe extern "win64" fn($($argument),*) $(-> $result)? = $($path)::+;
        let _ = export;
        let name = $crate::vf::rehearsal::last_word(stringify!($($path)::+));
        // SAFETY: what an import is bound to has the form of the export.
        unsafe {
            core::mem::transmute::<*const core::ffi::c_void, unsafe extern "win64" fn($($argument),*) $(-> $result)?>(
                $driver.import(name),
            )
        }
    }};
}
pub(crate) use import;

/// The last name of a path.
pub fn last_word(path: &str) -> &str {
    path.rsplit(':').next().unwrap_or(path).trim()
}

/// A driver that is loaded, for some scenes.
#[derive(Debug)]
pub struct Stage {
    driver: &'static Verified,
    base: u64,
}

impl Stage {
    /// Loads it, verified with `flags`.
    pub fn new(flags: u32) -> Option<Self> {
        Self::with_code(flags, ADDRESSES..ADDRESSES + 0x1000)
    }

    /// The same for a driver whose code is at these addresses: a routine of the test's.
    pub fn with_code(flags: u32, code: Range<u64>) -> Option<Self> {
        verified::set(NAME, flags).ok()?;
        let driver = verified::begin_load(NAME, &code)?;
        Some(Self { driver, base: code.start })
    }

    /// What the Verifier stops the system for when the driver does what `scene` does; none where it lets it pass.
    pub fn stop_of(&self, scene: impl FnOnce(Driver) + Send + 'static) -> Option<Stop> {
        *NOTED.lock() = None;
        let driver = Driver(self.driver);
        let actor = thread::spawn("rehearsal", 8, move || {
            ACTOR.store(thread::current().as_ptr().addr(), Ordering::Release);
            scene(driver);
        });
        let over = actor.is_ok_and(|actor| actor.join(Some(PATIENCE_NS)));
        ACTOR.store(0, Ordering::Release);
        if !over {
            crate::ke::bugcheck::kernel_fault(format_args!("a rehearsal is not over after 5 s"), line!());
        }
        NOTED.lock().take()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        verified::end_load(self.base);
        let _ = verified::set(NAME, 0);
    }
}

/// One scene of a driver that is verified with `flags`.
pub fn stop_of(flags: u32, scene: fn(Driver)) -> Option<Stop> {
    Stage::new(flags)?.stop_of(scene)
}

/// Takes a stop that is only rehearsed: then this does not return.
pub fn take(code: u32, parameters: [u64; 4]) {
    if ACTOR.load(Ordering::Acquire) != thread::current().as_ptr().addr() {
        return;
    }
    irql::set(Irql::PASSIVE);
    *NOTED.lock() = Some((code, parameters));
    thread::exit(0);
}

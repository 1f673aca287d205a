//! Stops of the Verifier's that do not stop the system, for the kernel's own tests.
//!
//! A test plays a verified driver: it calls through what the loader would bind the driver's imports to, on a thread of its
//! own. Should the Verifier stop the system for what that thread does, the stop is noted and the thread ends instead. What
//! a stop looks like from outside is for a few words of the command line ([`crate::selftest::provoke`]) to show.

use core::ffi::c_void;
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
const STAGE: u64 = 0xFFFF_F8FD_0000_0000;
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

/// `play`'s routine `$name`, of the type of the export `$export`.
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

/// What the Verifier stops the system for when a driver that is verified with `flags` does what `play` does; none where it
/// lets it pass.
pub fn stop_of(flags: u32, play: fn(Driver)) -> Option<Stop> {
    *NOTED.lock() = None;
    if verified::set(NAME, flags).is_err() {
        return None;
    }
    let driver = verified::begin_load(NAME, &(STAGE..STAGE + 0x1000))?;
    let actor = thread::spawn("rehearsal", 8, move || {
        ACTOR.store(thread::current().as_ptr().addr(), Ordering::Release);
        play(Driver(driver));
    });
    let over = actor.is_ok_and(|actor| actor.join(Some(PATIENCE_NS)));
    ACTOR.store(0, Ordering::Release);
    verified::end_load(STAGE);
    let _ = verified::set(NAME, 0);
    if !over {
        crate::ke::bugcheck::kernel_fault(format_args!("a rehearsal is not over after 5 s"), line!());
    }
    NOTED.lock().take()
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

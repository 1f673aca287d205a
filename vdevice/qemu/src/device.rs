//! One card in one machine: the model, and what its effects do to QEMU.
//!
//! Every way in is the same step: take the card, let it do something, write what happened to the flight
//! recorder, set the timer, let go of the card, and then move the interrupt line.

use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use squall_model::{Card, Effects, Event, LineChange, Statistics, StormSpec, StormSpecError};

use crate::abi::IrqState;
use crate::description::Watch;
use crate::recorder::{Recorder, Stamp};
use crate::symbols::qemu;
use crate::timer::Timer;
use crate::{clock, processor};

/// A device of QEMU's that is one of our cards.
pub(crate) struct Device {
    /// What the user asked for. It counts until the device is realized.
    settings: Mutex<Settings>,
    /// What there is once it is.
    hardware: OnceLock<Hardware>,
}

/// What the user asked for on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// First port of the register window.
    pub(crate) iobase: u32,
    /// ISA interrupt.
    pub(crate) irq: u32,
    /// The flight recorder's file; empty for none.
    pub(crate) trace: String,
    /// How many records it holds.
    pub(crate) trace_records: u32,
}

/// A card that is plugged in.
struct Hardware {
    bench: Mutex<Bench>,
    watch: Mutex<Option<Watch>>,
    timer: Timer,
    line: Line,
}

/// The card, and what is attached to it.
struct Bench {
    card: Card,
    recorder: Option<Recorder>,
    armed: Option<u64>,
}

/// How the card's interrupt line reaches the machine.
pub(crate) enum Line {
    /// A wire of the ISA interrupt controllers, which look at its edges.
    Isa(Wire),
}

/// A wire of QEMU's.
pub(crate) struct Wire(*mut IrqState);

// SAFETY: QEMU's wires are not bound to a thread; they are moved under the big lock, as everything that moves
// one is.
unsafe impl Send for Wire {}
// SAFETY: as above.
unsafe impl Sync for Wire {}

impl Wire {
    /// # Safety
    /// `irq` is a wire that exists as long as the machine.
    pub(crate) unsafe fn new(irq: *mut IrqState) -> Self {
        Self(irq)
    }

    fn set(&self, level: bool) {
        // SAFETY: the wire exists, by the word given to `new`; the big lock is held in every call of a
        // device.
        unsafe { (qemu().qemu_set_irq)(self.0, i32::from(level)) };
    }
}

impl Line {
    fn apply(&self, change: LineChange) {
        match self {
            Self::Isa(wire) => {
                // An edge needs a low level before it. Where it was low already, this changes nothing.
                if change.rose {
                    wire.set(false);
                    wire.set(true);
                }
                if !change.level {
                    wire.set(false);
                }
            }
        }
    }
}

impl Device {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings: Mutex::new(settings), hardware: OnceLock::new() }
    }

    pub(crate) fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    /// The device is plugged in. Its address must not change from now on, as its timer and its registers
    /// point to it.
    pub(crate) fn plug(&self, line: Line, recorder: Option<Recorder>) {
        let opaque = std::ptr::from_ref(self).cast_mut().cast();
        // SAFETY: `time_reached` wants a device; the timer is dropped with this one, or never.
        let timer = unsafe { Timer::new(time_reached, opaque) };
        let bench = Mutex::new(Bench { card: Card::new(), recorder, armed: None });
        let _ = self.hardware.set(Hardware { bench, watch: Mutex::new(None), timer, line });
    }

    pub(crate) fn is_plugged(&self) -> bool {
        self.hardware.get().is_some()
    }

    pub(crate) fn read(&self, offset: u64, size: u32) -> Option<u32> {
        let mut bench = lock(&self.hardware.get()?.bench);
        let Bench { card, recorder, .. } = &mut *bench;
        card.read(offset, size, &mut journal(recorder)).ok()
    }

    pub(crate) fn write(&self, offset: u64, size: u32, value: u64) {
        self.step(|card, journal| card.write(offset, size, value, clock::virtual_ns(), journal).ok());
    }

    pub(crate) fn fire(&self, samples: u64) {
        self.step(|card, journal| Some(card.fire(samples, journal)));
    }

    pub(crate) fn reset(&self) {
        self.step(|card, journal| Some(card.reset(journal)));
    }

    /// Starts a storm, or stops the one that runs.
    pub(crate) fn set_storm(&self, storm: Option<StormSpec>) -> Result<(), StormSpecError> {
        let mut result = Ok(());
        self.step(|card, journal| match storm {
            None => Some(card.stop_storm(journal)),
            Some(spec) => card.start_storm(spec, journal).map_err(|error| result = Err(error)).ok(),
        });
        result
    }

    pub(crate) fn storm(&self) -> Option<StormSpec> {
        lock(&self.hardware.get()?.bench).card.storm()
    }

    pub(crate) fn statistics(&self) -> Statistics {
        self.hardware.get().map(|hardware| lock(&hardware.bench).card.statistics()).unwrap_or_default()
    }

    pub(crate) fn set_watch(&self, watch: Option<Watch>) {
        if let Some(hardware) = self.hardware.get() {
            *lock(&hardware.watch) = watch;
        }
    }

    pub(crate) fn watch(&self) -> Option<Watch> {
        *lock(&self.hardware.get()?.watch)
    }

    /// Whether a processor that is about to execute the instruction at `address` is to be held up for it.
    pub(crate) fn awaits(&self, address: u64) -> bool {
        self.watch().is_some_and(|watch| {
            let leaves = watch.leave.is_some_and(|leave| leave.0 == address);
            watch.enter.0 == address || (leaves && self.statistics().unload.inside)
        })
    }

    /// A processor is about to execute the instruction at `address`.
    pub(crate) fn reached(&self, address: u64) {
        let Some(watch) = self.watch() else { return };
        if watch.enter.0 == address {
            self.step(|card, journal| Some(card.enter_unload(address, watch.fire_at_enter, journal)));
        }
        if watch.leave.is_some_and(|leave| leave.0 == address) {
            self.step(|card, journal| Some(card.leave_unload(address, journal)));
        }
    }

    /// The timer has gone off, and is set no more.
    fn disarm(&self) {
        if let Some(hardware) = self.hardware.get() {
            lock(&hardware.bench).armed = None;
        }
    }

    /// Lets the card do something, and carries out what comes of it. The big lock is held.
    fn step(&self, call: impl FnOnce(&mut Card, &mut dyn FnMut(Event)) -> Option<Effects>) {
        let Some(hardware) = self.hardware.get() else { return };
        let mut bench = lock(&hardware.bench);
        let Bench { card, recorder, armed } = &mut *bench;
        let Some(effects) = call(card, &mut journal(recorder)) else { return };
        if effects.deadline != *armed {
            *armed = effects.deadline;
            hardware.timer.set(effects.deadline);
        }
        drop(bench);
        if let Some(change) = effects.line {
            hardware.line.apply(change);
        }
    }
}

/// The timer's callback.
unsafe extern "C" fn time_reached(opaque: *mut c_void) {
    // SAFETY: the device given to the timer in `plug`.
    let device = unsafe { &*opaque.cast::<Device>() };
    device.disarm();
    device.step(|card, journal| Some(card.time_reached(clock::virtual_ns(), journal)));
}

/// A journal of one step. A step takes no time, so that all of its events bear the same stamp.
fn journal(recorder: &mut Option<Recorder>) -> impl FnMut(Event) {
    let mut stamp = None;
    move |event| {
        if let Some(recorder) = recorder {
            recorder.record(event, *stamp.get_or_insert_with(now));
        }
    }
}

fn now() -> Stamp {
    Stamp { virtual_ns: clock::virtual_ns(), host_ns: clock::host_ns(), processor: processor::current() }
}

/// A panic aborts before it can poison a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

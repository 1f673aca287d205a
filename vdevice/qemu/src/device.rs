//! One card in one machine: the model, and what its effects do to QEMU.
//!
//! Every way in is the same step: take the card, let it do something, write what happened to the flight
//! recorder, set the timer, let go of the card, and then move the interrupt line.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use squall_model::{Card, Effects, Event, Misbehaviour, MisbehaviourError, Schedule, Statistics, StormError};

use crate::abi::{Room, StateEntry};
use crate::big_lock::BigLocked;
use crate::clock::Times;
use crate::description::Watch;
use crate::line::{Line, Mode, Movement};
use crate::recorder::{self, Recorder, Stamp};
use crate::snapshot::Block;
use crate::symbols::qemu;
use crate::timer::Timer;
use crate::{clock, processor};

/// A device of QEMU's that is one of our cards.
pub(crate) struct Device {
    /// What the user asked for. It counts until the device is realized.
    settings: Mutex<Settings>,
    /// What there is once it is.
    hardware: OnceLock<Hardware>,
    /// It was plugged in and pulled out.
    pulled_out: AtomicBool,
    /// What QEMU's object keeps its regions in, until it is gone.
    rooms: Mutex<Vec<KeptRoom>>,
}

/// Which kind of slot a card is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Isa,
    Pci,
    Pcie,
}

impl Slot {
    /// The name of the device's type.
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Self::Isa => "squall-isa",
            Self::Pci => "squall-pci",
            Self::Pcie => "squall-pcie",
        }
    }
}

/// What the user asked for on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where the card goes. The device's type says it.
    pub(crate) slot: Slot,
    /// First port of the register window, for ISA.
    pub(crate) iobase: u32,
    /// ISA interrupt.
    pub(crate) irq: u32,
    /// Whether it has MSI, for PCI.
    pub(crate) msi: bool,
    /// MSI-X vectors, for PCI.
    pub(crate) vectors: u32,
    /// The flight recorder's file; empty for none.
    pub(crate) trace: String,
    /// How many records it holds.
    pub(crate) trace_records: u32,
}

impl Settings {
    /// What a card is if nobody says.
    pub(crate) fn of(slot: Slot) -> Self {
        Self {
            slot,
            iobase: 0x300,
            irq: 5,
            msi: true,
            vectors: 4,
            trace: String::new(),
            trace_records: recorder::DEFAULT_RECORDS,
        }
    }
}

impl Settings {
    /// The ports that an ISA card takes.
    pub(crate) fn port(&self) -> Option<u16> {
        u16::try_from(self.iobase).ok().filter(|_| self.slot == Slot::Isa)
    }
}

/// Room that QEMU uses. It is given back with the device.
struct KeptRoom(*mut Room);

// SAFETY: nothing is done with it but to free it.
unsafe impl Send for KeptRoom {}

impl Drop for KeptRoom {
    fn drop(&mut self) {
        // SAFETY: from `Box::into_raw` in `Device::keep`; QEMU is done with what was in it, as its object was
        // finalised before the registry let go of the device.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// A card that is plugged in.
struct Hardware {
    bench: BigLocked<Bench>,
    glimpse: Glimpse,
    watch: Mutex<Option<Watch>>,
    timer: Timer,
    line: Line,
    handler: Mutex<Option<Handler>>,
}

/// What is looked at without the big lock: how the card was at the end of its last step.
#[derive(Default)]
struct Glimpse {
    /// The interrupt line.
    line: AtomicBool,
    /// Unload is running.
    inside: AtomicBool,
}

impl Glimpse {
    fn keep(&self, card: &Card) {
        self.line.store(card.line(), Ordering::Release);
        self.inside.store(card.is_unloading(), Ordering::Release);
    }
}

/// The card, and what is attached to it.
struct Bench {
    card: Card,
    recorder: Option<Recorder>,
    armed: Option<u64>,
    block: Block,
    /// The machine is stopped: snapshots can be made and loaded.
    stopped: bool,
}

impl Bench {
    /// If a snapshot was loaded, the card is the one that was in it.
    fn refresh(&mut self, hardware: &Hardware) {
        if self.stopped {
            self.look_for_snapshot(hardware);
        }
    }

    /// Apart, as it is not what a running machine should have to step over.
    #[cold]
    #[inline(never)]
    fn look_for_snapshot(&mut self, hardware: &Hardware) {
        if let Some(card) = self.block.load() {
            self.card = card;
            let effects = self.card.restored(&mut journal(&mut self.recorder, clock::now()));
            self.armed = effects.deadline;
            hardware.timer.set(effects.deadline);
            hardware.glimpse.keep(&self.card);
            hardware.line.restored(self.card.line());
        }
    }

    /// A snapshot would hold the card as it is now.
    fn keep(&mut self) {
        if self.stopped {
            self.block.save(&self.card);
        }
    }
}

/// QEMU's handle of our handler.
struct Handler(*mut StateEntry);

// SAFETY: it is only used to remove the handler, once, under the big lock.
unsafe impl Send for Handler {}

impl Device {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings: Mutex::new(settings),
            hardware: OnceLock::new(),
            pulled_out: AtomicBool::new(false),
            rooms: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    /// The device is plugged in. Its address must not change from now on, as its timer and its registers
    /// point to it.
    pub(crate) fn plug(&self, line: Line, recorder: Option<Recorder>, block: Block) {
        let opaque = std::ptr::from_ref(self).cast_mut().cast();
        // SAFETY: `time_reached` wants a device; the timer is dropped with this one, or never.
        let timer = unsafe { Timer::new(time_reached, opaque) };
        // SAFETY: QEMU's own variable, which changes under the big lock.
        let stopped = !unsafe { (qemu().runstate_is_running)() };
        clock::state_changed(!stopped);
        let mut bench = Bench { card: Card::new(), recorder, armed: None, block, stopped };
        bench.keep();
        // SAFETY: `state_changed` wants a device; the handler is removed when this one is unplugged, and one
        // that is not lives as long as the process.
        let entry = unsafe { (qemu().qemu_add_vm_change_state_handler)(state_changed, opaque) };
        let _ = self.hardware.set(Hardware {
            bench: BigLocked::new(bench),
            glimpse: Glimpse::default(),
            watch: Mutex::new(None),
            timer,
            line,
            handler: Mutex::new(Some(Handler(entry))),
        });
    }

    /// Keeps room for QEMU, as long as this device.
    pub(crate) fn keep(&self, room: Box<Room>) -> *mut Room {
        let room = Box::into_raw(room);
        lock(&self.rooms).push(KeptRoom(room));
        room
    }

    /// The card is pulled out of its slot, and does nothing from now on. The big lock is held.
    pub(crate) fn unplug(&self) {
        let Some(hardware) = self.hardware() else { return };
        *lock(&hardware.watch) = None;
        self.step(|card, now, journal| Some(card.stop_storm(now, journal)));
        self.step(|card, now, journal| Some(card.reset(now, journal)));
        self.pulled_out.store(true, Ordering::Relaxed);
        hardware.timer.set(None);
        hardware.bench.take().block.give_up_name();
        if let Some(handler) = lock(&hardware.handler).take() {
            // SAFETY: added in `plug`, and removed once.
            unsafe { (qemu().qemu_del_vm_change_state_handler)(handler.0) };
        }
    }

    /// The machine starts or stops. The big lock is held, and no processor runs.
    fn state_changed(&self, running: bool) {
        clock::state_changed(running);
        let Some(hardware) = self.hardware() else { return };
        let mut bench = hardware.bench.take();
        bench.refresh(hardware);
        bench.stopped = !running;
        bench.keep();
    }

    /// The card as it is now.
    fn look<T>(&self, look: impl FnOnce(&Card) -> T) -> Option<T> {
        let hardware = self.hardware.get()?;
        let mut bench = hardware.bench.take();
        bench.refresh(hardware);
        Some(look(&bench.card))
    }

    /// Whether it is, or was.
    pub(crate) fn was_plugged(&self) -> bool {
        self.hardware.get().is_some()
    }

    pub(crate) fn is_plugged(&self) -> bool {
        self.hardware().is_some()
    }

    fn hardware(&self) -> Option<&Hardware> {
        self.hardware.get().filter(|_| !self.pulled_out.load(Ordering::Relaxed))
    }

    /// What interrupts are turned into, once there can be some.
    pub(crate) fn interrupt_mode(&self) -> Option<Mode> {
        Some(self.hardware()?.line.mode())
    }

    /// Runs what may choose another interrupt mode. A line that is high stays so in the new one. The big lock
    /// is held.
    pub(crate) fn while_choosing_line(&self, choose: impl FnOnce()) {
        let before = self.interrupt_mode();
        choose();
        let Some(hardware) = self.hardware() else { return };
        let statistics = self.statistics();
        if self.interrupt_mode() != before && statistics.line {
            hardware.line.present(statistics.asserted);
        }
    }

    pub(crate) fn read(&self, offset: u64, size: u32) -> Option<u32> {
        let mut value = None;
        self.step(|card, now, journal| {
            let (read, effects) = card.read(offset, size, now, journal).ok()?;
            value = Some(read);
            Some(effects)
        });
        value
    }

    pub(crate) fn write(&self, offset: u64, size: u32, value: u64) {
        self.step(|card, now, journal| card.write(offset, size, value, now, journal).ok());
    }

    pub(crate) fn fire(&self, samples: u64) {
        self.step(|card, now, journal| Some(card.fire(samples, now, journal)));
    }

    pub(crate) fn reset(&self) {
        self.step(|card, now, journal| Some(card.reset(now, journal)));
    }

    /// Starts a storm of these schedules, or, where there are none, stops the one that runs.
    pub(crate) fn set_storm(&self, schedules: &[Schedule]) -> Result<(), StormError> {
        let mut result = Ok(());
        self.step(|card, now, journal| match schedules {
            [] => Some(card.stop_storm(now, journal)),
            schedules => card.start_storm(schedules, now, journal).map_err(|error| result = Err(error)).ok(),
        });
        result
    }

    /// The schedules that run.
    pub(crate) fn storm(&self) -> Vec<Schedule> {
        self.look(|card| card.storm().collect()).unwrap_or_default()
    }

    /// Has the card do this wrong from now on.
    pub(crate) fn misbehave(&self, wrong: Misbehaviour) -> Result<(), MisbehaviourError> {
        let mut result = Ok(());
        self.step(|card, now, journal| {
            card.misbehave(wrong, now, journal).map_err(|error| result = Err(error)).ok()
        });
        result
    }

    /// What it does wrong.
    pub(crate) fn misbehaviour(&self) -> Misbehaviour {
        self.look(Card::misbehaviour).unwrap_or_default()
    }

    pub(crate) fn statistics(&self) -> Statistics {
        self.look(Card::statistics).unwrap_or_default()
    }

    pub(crate) fn set_watch(&self, watch: Option<Watch>) {
        if let Some(hardware) = self.hardware() {
            *lock(&hardware.watch) = watch;
        }
    }

    pub(crate) fn watch(&self) -> Option<Watch> {
        *lock(&self.hardware()?.watch)
    }

    /// Whether a processor that is about to execute the instruction at `address` is to be held up for it.
    pub(crate) fn awaits(&self, address: u64) -> bool {
        self.watch().is_some_and(|watch| {
            let leaves = watch.leave.is_some_and(|leave| leave.0 == address);
            watch.enter.0 == address || (leaves && self.glimpse(|glimpse| &glimpse.inside))
        })
    }

    /// Whether the interrupt line is high, for who does not hold the big lock.
    pub(crate) fn line_is_high(&self) -> bool {
        self.glimpse(|glimpse| &glimpse.line)
    }

    fn glimpse(&self, what: impl FnOnce(&Glimpse) -> &AtomicBool) -> bool {
        self.hardware().is_some_and(|hardware| what(&hardware.glimpse).load(Ordering::Acquire))
    }

    /// A processor is about to execute the instruction at `address`.
    pub(crate) fn reached(&self, address: u64) {
        let Some(watch) = self.watch() else { return };
        if watch.enter.0 == address {
            let fire = watch.fire_at_enter;
            self.step(|card, now, journal| Some(card.enter_unload(address, fire, now, journal)));
        }
        if watch.leave.is_some_and(|leave| leave.0 == address) {
            self.step(|card, now, journal| Some(card.leave_unload(address, now, journal)));
        }
    }

    /// The timer has gone off, and is set no more.
    fn disarm(&self) {
        if let Some(hardware) = self.hardware() {
            hardware.bench.take().armed = None;
        }
    }

    /// Lets the card do something, at the virtual time that it is, and carries out what comes of it. The big lock
    /// is held.
    fn step(&self, call: impl FnOnce(&mut Card, u64, &mut dyn FnMut(Event)) -> Option<Effects>) {
        let Some(hardware) = self.hardware() else { return };
        let mut bench = hardware.bench.take();
        bench.refresh(hardware);
        let Bench { card, recorder, armed, .. } = &mut *bench;
        let times = clock::now();
        let was = card.line();
        let Some(effects) = call(card, times.virtual_ns, &mut journal(recorder, times)) else { return };
        if effects.deadline != *armed {
            *armed = effects.deadline;
            hardware.timer.set(effects.deadline);
        }
        let asserted = card.asserted();
        hardware.glimpse.keep(card);
        bench.keep();
        drop(bench);
        if let Some(change) = effects.line {
            hardware.line.apply(Movement { was, change, asserted });
        }
    }
}

/// QEMU tells that the machine starts or stops.
unsafe extern "C" fn state_changed(opaque: *mut c_void, running: bool, _state: c_int) {
    // SAFETY: the device given to the handler in `plug`.
    let device = unsafe { &*opaque.cast::<Device>() };
    device.state_changed(running);
}

/// The timer's callback.
unsafe extern "C" fn time_reached(opaque: *mut c_void) {
    // SAFETY: the device given to the timer in `plug`.
    let device = unsafe { &*opaque.cast::<Device>() };
    device.disarm();
    device.step(|card, now, journal| Some(card.time_reached(now, journal)));
}

/// A journal of one step. A step takes no time, so that all of its events bear the same stamp.
fn journal(recorder: &mut Option<Recorder>, times: Times) -> impl FnMut(Event) {
    let stamp = Stamp::new(times, recorder.is_some().then(processor::current).flatten());
    move |event| {
        if let Some(recorder) = recorder {
            recorder.record(event, stamp);
        }
    }
}

/// A panic aborts before it can poison a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! What the driver keeps for its device.

use core::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicU64},
};

use wdk_sys::PDEVICE_OBJECT;

#[cfg(feature = "defects")]
use crate::defect::{Defect, Misplaced};
use crate::{
    card::Card,
    clock::Heartbeat,
    held::Held,
    nt::{
        controller, dma,
        dpc::Dpc,
        event::{Event, Kind},
        interrupt::IsrLock,
        lock::SpinLock,
        lookaside::{self, LookasideMemory},
        timer::TimerMemory,
        work_item,
    },
    open::Open,
    read::Reads,
    recorder::Recording,
    saver::ServiceKey,
    watch::Watch,
};

/// The device extension: non-paged memory that comes and goes with the device object, and the only state this driver has.
///
/// The ISR reaches it at DIRQL, DPCs at DISPATCH_LEVEL, dispatch routines, the thread and the work item at or below that, each on any
/// processor. Hence every field is one of four kinds: it never changes; it is atomic, or the kernel's own object with a lock of its own;
/// it is behind a spin lock; or DriverEntry sets it before anything else runs.
pub(crate) struct Extension {
    /// The context of the ISR.
    arrivals: Arrivals,
    /// Held while the ISR runs.
    pub(crate) isr_lock: IsrLock,
    /// Memory of kernel objects.
    objects: Objects,
    /// Samples and who waits for them.
    pub(crate) reads: SpinLock<Reads>,
    /// The samples that came last.
    pub(crate) recording: SpinLock<Recording>,
    /// What the periodic timer watches over.
    pub(crate) watch: Watch,
    /// Interrupts when the thread was last woken.
    pub(crate) tallied: AtomicU64,
    /// Samples given to readers.
    pub(crate) delivered: AtomicU64,
    /// Reads that ended without a sample.
    pub(crate) timed_out: AtomicU64,
    /// How many seconds a read may wait; 0 for ever.
    pub(crate) read_timeout: u32,
    /// Set when there is something to record.
    pub(crate) activity: Event,
    /// Set when the thread is to terminate.
    pub(crate) stop: Event,
    /// Set while the work item is not queued and its routine has nothing left to do.
    pub(crate) saved: Event,
    /// Whether the work item is under way.
    pub(crate) saving: AtomicBool,
    /// What DriverEntry set up for other routines to use.
    pub(crate) set_up: SetUp,
    /// Never changes.
    #[cfg(feature = "defects")]
    pub(crate) defect: Option<Defect>,
    #[cfg(feature = "defects")]
    misplaced: Misplaced,
    /// Only DriverEntry and Unload, which never run at once.
    held: UnsafeCell<Option<Held>>,
}

/// What the ISR is called with: all that it needs at hand.
pub(crate) struct Arrivals {
    /// Whose interrupt it is.
    pub(crate) device: PDEVICE_OBJECT,
    /// Where it is acknowledged.
    pub(crate) card: Card,
    /// Interrupts that were served.
    pub(crate) interrupts: AtomicU64,
    /// Of these, those that found samples dropped.
    pub(crate) overruns: AtomicU64,
}

/// Memory that the kernel works on. In the extension it goes with the device object, as the documentation recommends.
pub(crate) struct Objects {
    /// The CustomDpc.
    pub(crate) tally: Dpc,
    /// The periodic timer and its CustomTimerDpc.
    pub(crate) watch: TimerMemory,
    /// The list of blocks for [`Open`].
    pub(crate) opens: LookasideMemory,
}

impl Objects {
    /// Memory for all of them.
    pub(crate) const fn new() -> Self {
        Self { tally: Dpc::new(), watch: TimerMemory::new(), opens: LookasideMemory::new() }
    }
}

/// What DriverEntry makes after the device, and other routines use.
pub(crate) struct SetUp(UnsafeCell<SetUpFields>);

/// The fields of [`SetUp`].
#[derive(Clone, Copy)]
pub(crate) struct SetUpFields {
    /// What a request needs that has the card to itself.
    pub(crate) controller: controller::Handle,
    /// Blocks for [`Open`].
    pub(crate) opens: lookaside::Handle<Open>,
    /// What the card could see.
    pub(crate) heartbeat: dma::Handle<Heartbeat>,
    /// What saves the counts.
    pub(crate) saver: work_item::Handle,
    /// Where to.
    pub(crate) service_key: ServiceKey,
    /// The device that ours is attached to.
    pub(crate) lower: PDEVICE_OBJECT,
}

impl SetUp {
    /// What was set up. Only reads what nobody changes any more once other routines than DriverEntry can run.
    pub(crate) fn get(&self) -> SetUpFields {
        // SAFETY: see `Extension::set_up`.
        unsafe { *self.0.get() }
    }
}

impl Extension {
    /// The state of a driver that has found its card and nothing else.
    pub(crate) const fn new(
        device: PDEVICE_OBJECT,
        card: Card,
        read_timeout: u32,
        #[cfg(feature = "defects")] defect: Option<Defect>,
        #[cfg(feature = "defects")] misplaced: Misplaced,
    ) -> Self {
        Self {
            arrivals: Arrivals { device, card, interrupts: AtomicU64::new(0), overruns: AtomicU64::new(0) },
            isr_lock: IsrLock::new(),
            objects: Objects::new(),
            reads: SpinLock::new(Reads::new()),
            recording: SpinLock::new(Recording::none()),
            watch: Watch::new(),
            tallied: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            read_timeout,
            activity: Event::new(),
            stop: Event::new(),
            saved: Event::new(),
            saving: AtomicBool::new(false),
            set_up: SetUp(UnsafeCell::new(SetUpFields {
                controller: controller::Handle::none(),
                opens: lookaside::Handle::none(),
                heartbeat: dma::Handle::none(),
                saver: work_item::Handle::none(),
                service_key: ServiceKey::none(),
                lower: core::ptr::null_mut(),
            })),
            #[cfg(feature = "defects")]
            defect,
            #[cfg(feature = "defects")]
            misplaced,
            held: UnsafeCell::new(None),
        }
    }

    /// The context of the ISR.
    pub(crate) fn arrivals(&self) -> &Arrivals {
        #[cfg(feature = "defects")]
        if let Some(arrivals) = self.misplaced.arrivals() {
            return arrivals;
        }
        &self.arrivals
    }

    /// Memory of kernel objects.
    pub(crate) fn objects(&self) -> &Objects {
        #[cfg(feature = "defects")]
        if let Some(objects) = self.misplaced.objects() {
            return objects;
        }
        &self.objects
    }

    /// Makes the events events.
    ///
    /// # Safety
    ///
    /// Called by DriverEntry, once, with the extension where it will stay.
    pub(crate) unsafe fn initialize_events(&self) {
        // SAFETY: by contract. One wake-up of the thread is enough for everything that has come in by then.
        unsafe { self.activity.initialize(Kind::Synchronization, false) };
        // SAFETY: by contract.
        unsafe { self.stop.initialize(Kind::Notification, false) };
        // SAFETY: by contract. The work item is not under way.
        unsafe { self.saved.initialize(Kind::Notification, true) };
    }

    /// Sets up what other routines will use.
    ///
    /// # Safety
    ///
    /// Called by DriverEntry, before any other routine can run.
    pub(crate) unsafe fn set_up(&self, change: impl FnOnce(&mut SetUpFields)) {
        // SAFETY: nothing else runs that reads it.
        change(unsafe { &mut *self.set_up.0.get() });
    }

    /// Keeps what Unload will need.
    ///
    /// # Safety
    ///
    /// Called by DriverEntry, once.
    pub(crate) unsafe fn hold(&self, held: Held) {
        // SAFETY: nothing else runs that touches it.
        unsafe { *self.held.get() = Some(held) };
    }

    /// Takes what DriverEntry kept.
    ///
    /// # Safety
    ///
    /// Called by Unload, once.
    pub(crate) unsafe fn release(&self) -> Option<Held> {
        // SAFETY: nothing else runs that touches it.
        unsafe { &mut *self.held.get() }.take()
    }
}

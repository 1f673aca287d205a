//! Objects that a thread can wait for, and the deferred procedure calls that signal them.
//!
//! Each waitable object begins with a [`DISPATCHER_HEADER`]: its type, whether it is signalled, and who waits.

use super::{BOOLEAN, LIST_ENTRY, PVOID, SINGLE_LIST_ENTRY, layout};

/// What kind of dispatcher object a header belongs to (`KOBJECTS`).
pub mod object_type {
    /// A `NotificationEvent`: stays signalled until reset, releases every waiter.
    pub const EVENT_NOTIFICATION: u8 = 0;
    /// A `SynchronizationEvent`: releases one waiter and resets itself.
    pub const EVENT_SYNCHRONIZATION: u8 = 1;
    /// A mutex.
    pub const MUTANT: u8 = 2;
    /// A process; signalled when it has ended.
    pub const PROCESS: u8 = 3;
    /// A queue of work for several threads.
    pub const QUEUE: u8 = 4;
    /// A semaphore.
    pub const SEMAPHORE: u8 = 5;
    /// A thread; signalled when it has ended.
    pub const THREAD: u8 = 6;
    /// A `NotificationTimer`.
    pub const TIMER_NOTIFICATION: u8 = 8;
    /// A `SynchronizationTimer`.
    pub const TIMER_SYNCHRONIZATION: u8 = 9;
    /// Not waitable: the type of an ordinary DPC.
    pub const DPC: u8 = 19;
    /// A DPC that a thread of the system's runs.
    pub const THREADED_DPC: u8 = 24;
}

/// The common beginning of every waitable object.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DISPATCHER_HEADER {
    /// One of [`object_type`].
    pub Type: u8,
    /// Flags whose meaning depends on the type.
    pub Flags: u8,
    /// Size of the object in units of four bytes.
    pub Size: u8,
    /// Timers: not zero while queued.
    pub Inserted: u8,
    /// Greater than zero when signalled.
    pub SignalState: i32,
    /// Who waits; the entries are the kernel's own.
    pub WaitListHead: LIST_ENTRY,
}
layout!(DISPATCHER_HEADER, size 0x18, SignalState @ 0x4, WaitListHead @ 0x8);

/// An event.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct KEVENT {
    /// Type, state, waiters.
    pub Header: DISPATCHER_HEADER,
}
layout!(KEVENT, size 0x18);

/// A counted semaphore.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct KSEMAPHORE {
    /// Type, count, waiters.
    pub Header: DISPATCHER_HEADER,
    /// The count never exceeds this.
    pub Limit: i32,
}
layout!(KSEMAPHORE, size 0x20, Limit @ 0x18);

/// A mutex that its owner may acquire again.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct KMUTANT {
    /// Type, state (1 free, 0 and below owned), waiters.
    pub Header: DISPATCHER_HEADER,
    /// Entry in the owner's list.
    pub MutantListEntry: LIST_ENTRY,
    /// The owner, null when free.
    pub OwnerThread: PVOID,
    /// The owner ended without releasing it.
    pub Abandoned: BOOLEAN,
    /// Owning it disables normal kernel APCs.
    pub ApcDisable: u8,
}
layout!(KMUTANT, size 0x38, MutantListEntry @ 0x18, OwnerThread @ 0x28);

/// Entries that wait for threads, and threads that wait for entries.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct KQUEUE {
    /// Type, number of entries, threads that wait.
    pub Header: DISPATCHER_HEADER,
    /// The entries.
    pub EntryListHead: LIST_ENTRY,
    /// Threads that work on entries and do not wait.
    pub CurrentCount: u32,
    /// As many are let work at once.
    pub MaximumCount: u32,
    /// Threads that took their last entry from here.
    pub ThreadListHead: LIST_ENTRY,
}
layout!(KQUEUE, size 0x40, EntryListHead @ 0x18, CurrentCount @ 0x28, MaximumCount @ 0x2C, ThreadListHead @ 0x30);

/// `KDEFERRED_ROUTINE`.
pub type DeferredRoutine =
    unsafe extern "win64" fn(dpc: *mut KDPC, context: PVOID, argument1: PVOID, argument2: PVOID);

/// A deferred procedure call: work that an interrupt leaves for `DISPATCH_LEVEL`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct KDPC {
    /// [`object_type::DPC`].
    pub Type: u8,
    /// Low, medium or high: where in the queue it goes.
    pub Importance: u8,
    /// Target processor plus a bias, 0 where not set.
    pub Number: u16,
    /// Link in the processor's queue.
    pub DpcListEntry: SINGLE_LIST_ENTRY,
    /// Which processors ever ran it.
    pub ProcessorHistory: usize,
    /// What to call.
    pub DeferredRoutine: Option<DeferredRoutine>,
    /// Its context.
    pub DeferredContext: PVOID,
    /// Passed by whoever queued it.
    pub SystemArgument1: PVOID,
    /// Passed by whoever queued it.
    pub SystemArgument2: PVOID,
    /// Not null while queued: whose queue.
    pub DpcData: PVOID,
}
layout!(KDPC, size 0x40, DeferredRoutine @ 0x18, DeferredContext @ 0x20, SystemArgument1 @ 0x28, DpcData @ 0x38);

/// A timer; may carry a DPC that is queued when it expires.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct KTIMER {
    /// Type, state, waiters; `Inserted` while it runs.
    pub Header: DISPATCHER_HEADER,
    /// When, in 100 ns units of interrupt time.
    pub DueTime: u64,
    /// Link in the timer queue.
    pub TimerListEntry: LIST_ENTRY,
    /// What to queue, or null.
    pub Dpc: *mut KDPC,
    /// The processor whose table it is in.
    pub Processor: u32,
    /// Milliseconds between expirations, 0 for once.
    pub Period: u32,
}
layout!(KTIMER, size 0x40, DueTime @ 0x18, TimerListEntry @ 0x20, Dpc @ 0x30, Period @ 0x3C);

/// A fast mutex, and since Windows 8 a guarded one: a count and an event.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct FAST_MUTEX {
    /// 1 when free.
    pub Count: i32,
    /// Who has it.
    pub Owner: PVOID,
    /// How often an acquirer had to wait.
    pub Contention: u32,
    /// Wakes the next acquirer.
    pub Event: KEVENT,
    /// IRQL to go back to.
    pub OldIrql: u32,
}
layout!(FAST_MUTEX, size 0x38, Owner @ 0x8, Contention @ 0x10, Event @ 0x18, OldIrql @ 0x30);

/// An entry of a device queue.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct KDEVICE_QUEUE_ENTRY {
    /// Link.
    pub DeviceListEntry: LIST_ENTRY,
    /// Order, for `KeInsertByKeyDeviceQueue`.
    pub SortKey: u32,
    /// In a queue.
    pub Inserted: BOOLEAN,
}
layout!(KDEVICE_QUEUE_ENTRY, size 0x18, SortKey @ 0x10, Inserted @ 0x14);

/// IRPs that wait for a busy device.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct KDEVICE_QUEUE {
    /// 20, `DeviceQueueObject`.
    pub Type: i16,
    /// Size of this structure.
    pub Size: i16,
    /// The entries.
    pub DeviceListHead: LIST_ENTRY,
    /// Guards the rest.
    pub Lock: usize,
    /// A request is being worked on.
    pub Busy: BOOLEAN,
}
layout!(KDEVICE_QUEUE, size 0x28, DeviceListHead @ 0x8, Lock @ 0x18, Busy @ 0x20);

//! Deadlock detection: in which order a verified driver takes its locks.
//!
//! Source: *Deadlock Detection*, and *Bug Check 0xC4: DRIVER_VERIFIER_DETECTED_VIOLATION*, values 0x1000 to 0x100B. Spin
//! locks, queued ones, fast and guarded mutexes and mutexes are watched; resources are not, as on Windows. The rules
//! are in [`squall_testkernel_pure::lock_order`]. Not here: 0x1002, as locks that are initialized inline tell nobody. 0x1003
//! (the wrong one of two released first) is only said where the level falls with a spin lock held: any other order
//! of release is the driver's affair.
//!
//! A lock that lies on the stack is not watched: nobody tells when it goes.

use core::ops::Range;

use squall_testkernel_pure::bugcheck::DRIVER_VERIFIER_DETECTED_VIOLATION;
use squall_testkernel_pure::lock_order::{Kind, LockOrder, Violation};

use super::rehearsal::{Driver, Stage, import, stop_of};
use super::stops::stop;
use super::thunk::intercept;
use crate::ex::pool::{self, Known};
use crate::ke::irql::{self, Irql};
use crate::ke::lock::InterruptLock;
use crate::ke::spinlock::{self, KLOCK_QUEUE_HANDLE};
use crate::ke::wait::WaitBlock;
use crate::ke::{processor, thread};
use crate::nt::{
    BOOLEAN, DISPATCHER_HEADER, FALSE, FAST_MUTEX, KIRQL, KMUTANT, KPROCESSOR_MODE, KSPIN_LOCK, NTSTATUS,
    PVOID, STATUS_SUCCESS, object_type,
};
use crate::selftest::{check, kernel_test};

static ORDER: InterruptLock<LockOrder> = InterruptLock::new(LockOrder::new());

/// Who takes and releases here: the thread, or, for what interrupts it, the processor, whose numbers are no thread's
/// address.
pub fn who() -> usize {
    let processor = processor::current();
    let number = processor.number() + 1;
    if irql::current() > Irql::DISPATCH {
        number << 8
    } else if processor.dpc_active.load(core::sync::atomic::Ordering::Relaxed) != 0 {
        number
    } else {
        thread::current().as_ptr().addr()
    }
}

fn judge(lock: usize, found: Result<(), Violation>) {
    let Err(violation) = found else { return };
    let lock = lock as u64;
    let [what, third, fourth] = match violation {
        Violation::SelfDeadlock => [0x1000, 0, 0],
        Violation::Order => [0x1001, 0, 0],
        Violation::ReleasedBefore(first) => [0x1003, first as u64, 0],
        Violation::WrongHolder(holder) => [0x1004, holder as u64, who() as u64],
        Violation::InitializedAgain => [0x1005, 0, 0],
        Violation::NotHeld => [0x1007, 0, 0],
        Violation::TakenOtherwise => [0x1008, 0, 0],
        Violation::ReleasedOtherwise => [0x1009, 0, 0],
    };
    stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [what, lock, third, fourth]);
}

fn take<T>(lock: *const T, kind: Kind, waits: bool) {
    if !thread::is_on_stack(lock.addr()) {
        let found = ORDER.lock().take(who(), lock.addr(), kind, waits);
        judge(lock.addr(), found);
    }
}

fn release<T>(lock: *const T, kind: Kind, falls: bool) {
    if !thread::is_on_stack(lock.addr()) {
        let found = ORDER.lock().release(who(), lock.addr(), kind, falls);
        judge(lock.addr(), found);
    }
}

fn initialize<T>(lock: *const T) {
    if !thread::is_on_stack(lock.addr()) {
        let found = ORDER.lock().initialize(lock.addr());
        judge(lock.addr(), found);
    }
}

/// Whether a dispatcher object is a mutex. A mutant is none: its owner may leave it to others.
///
/// # Safety
/// `object` is a dispatcher object.
unsafe fn is_mutex(object: PVOID) -> bool {
    // SAFETY: the caller's; each begins with a header.
    unsafe {
        (*object.cast::<DISPATCHER_HEADER>()).Type == object_type::MUTANT
            && (*object.cast::<KMUTANT>()).ApcDisable != 0
    }
}

/// Whether a lock taken in this way was not, after all.
fn given_up<T>(lock: *const T, kind: Kind, taken: bool) {
    if !taken && !thread::is_on_stack(lock.addr()) {
        let _ = ORDER.lock().release(who(), lock.addr(), kind, false);
    }
}

/// Memory goes, and with it what locks there are in it; one that is held stops the system where the driver is verified.
pub fn memory_goes(memory: Range<usize>, verified: bool) {
    let held = {
        let mut order = ORDER.lock();
        let held = order.held_in(memory.clone());
        order.forget(memory);
        held
    };
    if let Some((lock, holder)) = held.filter(|_| verified) {
        stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [0x100B, lock as u64, holder as u64, 0]);
    }
}

fn block_goes(block: PVOID) {
    if let Known::Live(block) = pool::look_up(block.addr()) {
        memory_goes(block.address..block.address + block.size, true);
    }
}

intercept! {
    for Deadlock;

    /// *KeInitializeSpinLock function (wdm.h)*.
    before fn KeInitializeSpinLock(site; lock: *mut KSPIN_LOCK) {
        initialize(lock);
        None
    }

    /// *KeInitializeMutex function (wdm.h)*.
    before fn KeInitializeMutex(site; mutex: *mut KMUTANT, level: u32) {
        initialize(mutex);
        None
    }

    /// *KeInitializeGuardedMutex function (wdm.h)*.
    before fn KeInitializeGuardedMutex(site; mutex: *mut FAST_MUTEX) {
        initialize(mutex);
        None
    }

    /// *KeAcquireSpinLock macro (wdm.h)*, which calls this.
    before fn KeAcquireSpinLockRaiseToDpc(site; lock: *mut KSPIN_LOCK) -> KIRQL {
        take(lock, Kind::Spin, true);
        None
    }

    /// *KeAcquireSpinLockAtDpcLevel function (wdm.h)*.
    before fn KeAcquireSpinLockAtDpcLevel(site; lock: *mut KSPIN_LOCK) {
        take(lock, Kind::Spin, true);
        None
    }

    /// *KeTryToAcquireSpinLockAtDpcLevel function (wdm.h)*.
    around fn KeTryToAcquireSpinLockAtDpcLevel(site; lock: *mut KSPIN_LOCK) -> BOOLEAN {
        take(lock, Kind::Spin, false);
        // SAFETY: the driver's lock.
        let taken = unsafe { (site.next)(lock) };
        given_up(lock, Kind::Spin, taken != FALSE);
        taken
    }

    /// *KeReleaseSpinLock function (wdm.h)*.
    before fn KeReleaseSpinLock(site; lock: *mut KSPIN_LOCK, old: KIRQL) {
        release(lock, Kind::Spin, Irql(old) < Irql::DISPATCH);
        None
    }

    /// *KeReleaseSpinLockFromDpcLevel function (wdm.h)*.
    before fn KeReleaseSpinLockFromDpcLevel(site; lock: *mut KSPIN_LOCK) {
        release(lock, Kind::Spin, false);
        None
    }

    /// *KeAcquireInStackQueuedSpinLock function (wdm.h)*.
    before fn KeAcquireInStackQueuedSpinLock(site; lock: *mut KSPIN_LOCK, handle: *mut KLOCK_QUEUE_HANDLE) {
        take(lock, Kind::QueuedSpin, true);
        None
    }

    /// *KeAcquireInStackQueuedSpinLockAtDpcLevel function (wdm.h)*.
    before fn KeAcquireInStackQueuedSpinLockAtDpcLevel(site; lock: *mut KSPIN_LOCK, handle: *mut KLOCK_QUEUE_HANDLE) {
        take(lock, Kind::QueuedSpin, true);
        None
    }

    /// *KeReleaseInStackQueuedSpinLock function (wdm.h)*.
    before fn KeReleaseInStackQueuedSpinLock(site; handle: *mut KLOCK_QUEUE_HANDLE) {
        // SAFETY: the driver's handle, filled in when the lock was taken.
        let (lock, old) = unsafe { spinlock::queued(handle) };
        release(lock, Kind::QueuedSpin, old < Irql::DISPATCH);
        None
    }

    /// *KeReleaseInStackQueuedSpinLockFromDpcLevel function (wdm.h)*.
    before fn KeReleaseInStackQueuedSpinLockFromDpcLevel(site; handle: *mut KLOCK_QUEUE_HANDLE) {
        // SAFETY: as above.
        let (lock, _) = unsafe { spinlock::queued(handle) };
        release(lock, Kind::QueuedSpin, false);
        None
    }

    /// *ExAcquireFastMutex function (wdm.h)*.
    before fn ExAcquireFastMutex(site; mutex: *mut FAST_MUTEX) {
        take(mutex, Kind::FastMutex, true);
        None
    }

    /// *ExAcquireFastMutexUnsafe function (wdm.h)*.
    before fn ExAcquireFastMutexUnsafe(site; mutex: *mut FAST_MUTEX) {
        take(mutex, Kind::FastMutex, true);
        None
    }

    /// *ExTryToAcquireFastMutex function (wdm.h)*.
    around fn ExTryToAcquireFastMutex(site; mutex: *mut FAST_MUTEX) -> BOOLEAN {
        take(mutex, Kind::FastMutex, false);
        // SAFETY: the driver's mutex.
        let taken = unsafe { (site.next)(mutex) };
        given_up(mutex, Kind::FastMutex, taken != FALSE);
        taken
    }

    /// *ExReleaseFastMutex function (wdm.h)*.
    before fn ExReleaseFastMutex(site; mutex: *mut FAST_MUTEX) {
        release(mutex, Kind::FastMutex, false);
        None
    }

    /// *ExReleaseFastMutexUnsafe function (wdm.h)*.
    before fn ExReleaseFastMutexUnsafe(site; mutex: *mut FAST_MUTEX) {
        release(mutex, Kind::FastMutex, false);
        None
    }

    /// *KeAcquireGuardedMutex function (wdm.h)*.
    before fn KeAcquireGuardedMutex(site; mutex: *mut FAST_MUTEX) {
        take(mutex, Kind::GuardedMutex, true);
        None
    }

    /// *KeTryToAcquireGuardedMutex function (wdm.h)*.
    around fn KeTryToAcquireGuardedMutex(site; mutex: *mut FAST_MUTEX) -> BOOLEAN {
        take(mutex, Kind::GuardedMutex, false);
        // SAFETY: the driver's mutex.
        let taken = unsafe { (site.next)(mutex) };
        given_up(mutex, Kind::GuardedMutex, taken != FALSE);
        taken
    }

    /// *KeReleaseGuardedMutex function (wdm.h)*.
    before fn KeReleaseGuardedMutex(site; mutex: *mut FAST_MUTEX) {
        release(mutex, Kind::GuardedMutex, false);
        None
    }

    /// *KeWaitForSingleObject function (wdm.h)*, where the object is a mutex.
    around fn KeWaitForSingleObject(
        site;
        object: PVOID,
        reason: u32,
        mode: KPROCESSOR_MODE,
        alertable: BOOLEAN,
        timeout: *const i64,
    ) -> NTSTATUS {
        // SAFETY: the driver's object.
        let is_mutex = unsafe { is_mutex(object) };
        if is_mutex {
            take(object, Kind::Mutex, timeout.is_null());
        }
        // SAFETY: the driver's arguments.
        let status = unsafe { (site.next)(object, reason, mode, alertable, timeout) };
        if is_mutex {
            given_up(object, Kind::Mutex, status == STATUS_SUCCESS);
        }
        status
    }

    /// *KeWaitForMultipleObjects function (wdm.h)*: the mutexes that it has acquired. In which order it did is not told, so none is judged.
    around fn KeWaitForMultipleObjects(
        site;
        count: u32,
        objects: *const PVOID,
        kind: u32,
        reason: u32,
        mode: KPROCESSOR_MODE,
        alertable: BOOLEAN,
        timeout: *const i64,
        blocks: *mut WaitBlock,
    ) -> NTSTATUS {
        const WAIT_ALL: u32 = 0;
        // SAFETY: the driver's arguments.
        let status = unsafe { (site.next)(count, objects, kind, reason, mode, alertable, timeout, blocks) };
        let satisfied = if kind == WAIT_ALL && status == STATUS_SUCCESS {
            0..count
        } else {
            let index = status.bits().min(count);
            index..(index + 1).min(count)
        };
        for index in satisfied {
            // SAFETY: the driver's objects.
            unsafe {
                let object = *objects.add(index as usize);
                if is_mutex(object) {
                    take(object, Kind::Mutex, false);
                }
            }
        }
        status
    }

    /// *KeReleaseMutex function (wdm.h)*.
    before fn KeReleaseMutex(site; mutex: *mut KMUTANT, wait: BOOLEAN) -> i32 {
        release(mutex, Kind::Mutex, false);
        None
    }

    /// 0x100A.
    before fn PsTerminateSystemThread(site; status: NTSTATUS) -> NTSTATUS {
        let me = who();
        let held = ORDER.lock().held_by(me);
        if held.is_some() {
            stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [0x100A, me as u64, 0, 0]);
        }
        None
    }

    /// 0x100B.
    before fn ExFreePool(site; block: PVOID) {
        block_goes(block);
        None
    }

    /// 0x100B.
    before fn ExFreePoolWithTag(site; block: PVOID, tag: u32) {
        block_goes(block);
        None
    }
}

mod scenes {
    //! What drivers do with locks.
    use core::cell::UnsafeCell;

    use super::{Driver, FAST_MUTEX, Irql, KIRQL, KLOCK_QUEUE_HANDLE, KSPIN_LOCK, import, irql};
    use crate::ke::spinlock::{
        KeAcquireInStackQueuedSpinLock, KeAcquireSpinLockAtDpcLevel, KeAcquireSpinLockRaiseToDpc,
        KeReleaseSpinLock, KeReleaseSpinLockFromDpcLevel,
    };

    /// Locks of a driver's.
    #[repr(C)]
    pub struct Locks(UnsafeCell<[KSPIN_LOCK; 2]>);

    // SAFETY: what is in it is only used as locks are.
    unsafe impl Sync for Locks {}

    impl Locks {
        pub const fn new() -> Self {
            Self(UnsafeCell::new([0; 2]))
        }

        pub fn lock(&self, index: usize) -> *mut KSPIN_LOCK {
            self.0.get().cast::<KSPIN_LOCK>().wrapping_add(index)
        }
    }

    /// Takes two spin locks, and releases them in the opposite order.
    pub fn nested(driver: Driver, outer: *mut KSPIN_LOCK, inner: *mut KSPIN_LOCK) {
        let take = import!(driver, KeAcquireSpinLockRaiseToDpc: fn(*mut KSPIN_LOCK) -> KIRQL);
        let take_more = import!(driver, KeAcquireSpinLockAtDpcLevel: fn(*mut KSPIN_LOCK));
        let release_more = import!(driver, KeReleaseSpinLockFromDpcLevel: fn(*mut KSPIN_LOCK));
        let release = import!(driver, KeReleaseSpinLock: fn(*mut KSPIN_LOCK, KIRQL));
        // SAFETY: both locks are statics of the test's.
        unsafe {
            let old = take(outer);
            take_more(inner);
            release_more(inner);
            release(outer, old);
        }
    }

    /// The same, releasing the outer one first.
    pub fn crossed(driver: Driver, outer: *mut KSPIN_LOCK, inner: *mut KSPIN_LOCK) {
        let take = import!(driver, KeAcquireSpinLockRaiseToDpc: fn(*mut KSPIN_LOCK) -> KIRQL);
        let take_more = import!(driver, KeAcquireSpinLockAtDpcLevel: fn(*mut KSPIN_LOCK));
        let release = import!(driver, KeReleaseSpinLock: fn(*mut KSPIN_LOCK, KIRQL));
        // SAFETY: as above.
        unsafe {
            let old = take(outer);
            take_more(inner);
            release(outer, old);
        }
    }

    /// Releases what nobody holds.
    pub fn release_only(driver: Driver, lock: *mut KSPIN_LOCK) {
        let release = import!(driver, KeReleaseSpinLockFromDpcLevel: fn(*mut KSPIN_LOCK));
        irql::raise(Irql::DISPATCH);
        // SAFETY: as above.
        unsafe { release(lock) };
    }

    /// Takes a lock as an ordinary one and then as a queued one.
    pub fn both_ways(driver: Driver, lock: *mut KSPIN_LOCK) {
        nested(driver, lock, lock.wrapping_add(1));
        let take =
            import!(driver, KeAcquireInStackQueuedSpinLock: fn(*mut KSPIN_LOCK, *mut KLOCK_QUEUE_HANDLE));
        let mut handle = core::mem::MaybeUninit::uninit();
        // SAFETY: as above.
        unsafe { take(lock, handle.as_mut_ptr()) };
    }

    /// Takes a fast mutex twice.
    pub fn twice(driver: Driver, mutex: *mut FAST_MUTEX) {
        use crate::ex::fast_mutex::ExAcquireFastMutex;
        let take = import!(driver, ExAcquireFastMutex: fn(*mut FAST_MUTEX));
        // SAFETY: the mutex is the test's; the second call does not come that far.
        unsafe {
            take(mutex);
            take(mutex);
        }
    }
}

kernel_test! {
    /// Values 0x1001, 0x1003, 0x1007 and 0x1008.
    fn locks_that_are_taken_in_opposite_orders_are_found_without_a_deadlock() {
        static LOCKS: scenes::Locks = scenes::Locks::new();
        let [a, b] = [0, 1].map(|index| LOCKS.lock(index).addr());
        let forget = || memory_goes(a..b + 8, false);
        let Some(stage) = Stage::new(super::classes::Class::Deadlock as u32) else { check!(false); return Ok(()) };
        check!(stage.stop_of(|driver| scenes::nested(driver, LOCKS.lock(0), LOCKS.lock(1))).is_none());
        let stop = stage.stop_of(|driver| scenes::nested(driver, LOCKS.lock(1), LOCKS.lock(0)));
        check!(stop == Some((0xC4, [0x1001, a as u64, 0, 0])));
        forget();
        // SAFETY: the scene before was stopped with this lock taken.
        unsafe { spinlock::release(LOCKS.lock(1)) };
        let stop = stage.stop_of(|driver| scenes::crossed(driver, LOCKS.lock(0), LOCKS.lock(1)));
        check!(stop == Some((0xC4, [0x1003, a as u64, b as u64, 0])));
        forget();
        // SAFETY: as above, with both.
        unsafe {
            spinlock::release(LOCKS.lock(0));
            spinlock::release(LOCKS.lock(1));
        }
        let stop = stage.stop_of(|driver| scenes::release_only(driver, LOCKS.lock(0)));
        check!(stop == Some((0xC4, [0x1007, a as u64, 0, 0])));
        let stop = stage.stop_of(|driver| scenes::both_ways(driver, LOCKS.lock(0)));
        check!(stop == Some((0xC4, [0x1008, a as u64, 0, 0])));
        forget();
    }

    /// Values 0x1000, 0x1005 and 0x100B.
    fn a_lock_is_taken_and_initialized_once_and_freed_when_nobody_holds_it() {
        use crate::ex::fast_mutex;
        use crate::ex::pool::ExFreePool;
        use crate::ke::spinlock::{KeAcquireSpinLockAtDpcLevel, KeInitializeSpinLock};
        use core::sync::atomic::{AtomicUsize, Ordering};

        static BLOCK: AtomicUsize = AtomicUsize::new(0);
        fn block<T>() -> *mut T {
            core::ptr::with_exposed_provenance_mut(BLOCK.load(Ordering::Acquire))
        }
        let Some(memory) = pool::allocate_zeroed(64, *b"Lock") else { check!(false); return Ok(()) };
        BLOCK.store(memory.as_ptr().expose_provenance(), Ordering::Release);
        let address = memory.as_ptr().addr();
        let deadlock = super::classes::Class::Deadlock as u32;
        // SAFETY: the block is this test's, and larger than a mutex.
        unsafe { fast_mutex::KeInitializeGuardedMutex(block()) };
        check!(stop_of(deadlock, |driver| scenes::twice(driver, block())) == Some((0xC4, [0x1000, address as u64, 0, 0])));
        memory_goes(address..address + 64, false);
        let initialized = stop_of(deadlock, |driver| {
            let initialize = import!(driver, KeInitializeSpinLock: fn(*mut KSPIN_LOCK));
            // SAFETY: the block is the test's.
            unsafe {
                initialize(block());
                initialize(block());
            }
        });
        check!(initialized == Some((0xC4, [0x1005, address as u64, 0, 0])));
        memory_goes(address..address + 64, false);
        let freed = stop_of(deadlock, |driver| {
            let take = import!(driver, KeAcquireSpinLockAtDpcLevel: fn(*mut KSPIN_LOCK));
            let free = import!(driver, ExFreePool: fn(PVOID));
            irql::raise(Irql::DISPATCH);
            // SAFETY: as above; the stop comes before the block is freed.
            unsafe {
                take(block());
                free(block());
            }
        });
        check!(freed.is_some_and(|(code, parameters)| {
            code == 0xC4 && parameters[..2] == [0x100B, address as u64] && parameters[2] != 0
        }));
        pool::free(address, 0);
    }
}

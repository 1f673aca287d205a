//! Dispatcher objects and locks, in the shapes that a crate would wrap them in.

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    ptr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use wdk_sys::{
    _EVENT_TYPE::{NotificationEvent, SynchronizationEvent},
    _KWAIT_REASON::Executive,
    _MODE::KernelMode,
    _WAIT_TYPE::{WaitAll, WaitAny},
    DISPATCH_LEVEL, KEVENT, KMUTEX, KSPIN_LOCK, PVOID, STATUS_SUCCESS, STATUS_TIMEOUT,
    ntddk::{
        KeAcquireSpinLockRaiseToDpc, KeInitializeEvent, KeInitializeMutex, KeReadStateEvent,
        KeReadStateMutex, KeReleaseMutex, KeReleaseSpinLock, KeSetEvent, KeWaitForMultipleObjects,
        KeWaitForSingleObject,
    },
};

use crate::{
    check::{Suite, holds, rule},
    irql,
    thread::{Thread, relative_us},
};

/// An event in pool, where it stays.
struct Event(Box<UnsafeCell<KEVENT>>);

// SAFETY: the kernel's routines synchronize.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    fn new(kind: i32) -> Self {
        let event = Self(Box::new(UnsafeCell::new(KEVENT::default())));
        // SAFETY: storage that stays where it is.
        unsafe { KeInitializeEvent(event.0.get(), kind, 0) };
        event
    }

    fn set(&self) {
        // SAFETY: initialized.
        let _ = unsafe { KeSetEvent(self.0.get(), 0, 0) };
    }

    fn is_set(&self) -> bool {
        // SAFETY: initialized.
        unsafe { KeReadStateEvent(self.0.get()) != 0 }
    }

    fn wait_ms(&self, milliseconds: i64) -> i32 {
        let mut time = relative_us(milliseconds * 1000);
        // SAFETY: initialized.
        unsafe { KeWaitForSingleObject(self.0.get().cast(), Executive, KernelMode as i8, 0, &mut time) }
    }
}

/// A spin lock round a value.
struct Locked<T> {
    lock: UnsafeCell<KSPIN_LOCK>,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives the value to one at a time.
unsafe impl<T: Send> Sync for Locked<T> {}

impl<T> Locked<T> {
    fn with<R>(&self, action: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: zero is a free lock, as KeInitializeSpinLock makes it; held for the action and no longer.
        unsafe {
            let old = KeAcquireSpinLockRaiseToDpc(self.lock.get());
            let result = action(&mut *self.value.get());
            KeReleaseSpinLock(self.lock.get(), old);
            result
        }
    }
}

pub(crate) fn rules(suite: &mut Suite) {
    rule!(
        suite,
        "Event Objects",
        "two threads hand over to each other a thousand times by synchronization events",
        |rule| {
            let pair = Arc::new((
                Event::new(SynchronizationEvent),
                Event::new(SynchronizationEvent),
                AtomicU64::new(0),
            ));
            let other = pair.clone();
            let thread = Thread::start(move || {
                for _ in 0..1000 {
                    if other.0.wait_ms(5000) != STATUS_SUCCESS {
                        return;
                    }
                    other.2.fetch_add(1, Ordering::Relaxed);
                    other.1.set();
                }
            });
            holds!(rule, thread.is_some());
            let mut in_turn = 0;
            for round in 1..=1000 {
                pair.0.set();
                if pair.1.wait_ms(5000) == STATUS_SUCCESS && pair.2.load(Ordering::Relaxed) == round {
                    in_turn += 1;
                }
            }
            holds!(rule, in_turn == 1000);
            // Each wait took its signal.
            holds!(rule, !pair.0.is_set() && !pair.1.is_set());
        }
    );

    rule!(
        suite,
        "KeWaitForMultipleObjects function",
        "WaitAny names the one that is signaled, WaitAll takes all or none",
        |rule| {
            let events: Vec<Event> = (0..3).map(|_| Event::new(SynchronizationEvent)).collect();
            let mut objects: Vec<PVOID> = events.iter().map(|event| event.0.get().cast()).collect();
            let mut wait = |kind| {
                let mut time = relative_us(0);
                // SAFETY: three initialized events, for which the thread's own wait blocks suffice.
                unsafe {
                    KeWaitForMultipleObjects(
                        3,
                        objects.as_mut_ptr(),
                        kind,
                        Executive,
                        KernelMode as i8,
                        0,
                        &mut time,
                        ptr::null_mut(),
                    )
                }
            };
            holds!(rule, wait(WaitAny) == STATUS_TIMEOUT);
            let [first, second, third] = events.as_slice() else { return };
            second.set();
            holds!(rule, wait(WaitAny) == 1 && !second.is_set());
            first.set();
            third.set();
            holds!(rule, wait(WaitAll) == STATUS_TIMEOUT && first.is_set() && third.is_set());
            second.set();
            holds!(
                rule,
                wait(WaitAll) == STATUS_SUCCESS && !first.is_set() && !second.is_set() && !third.is_set()
            );
        }
    );

    rule!(suite, "KeSetEvent function", "a notification event lets everybody through", |rule| {
        let gate = Arc::new((Event::new(NotificationEvent), AtomicU64::new(0)));
        let threads: Vec<_> = (0..6)
            .filter_map(|_| {
                let gate = gate.clone();
                Thread::start(move || {
                    if gate.0.wait_ms(5000) == STATUS_SUCCESS {
                        gate.1.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        holds!(rule, threads.len() == 6 && gate.1.load(Ordering::Relaxed) == 0);
        gate.0.set();
        drop(threads);
        holds!(rule, gate.1.load(Ordering::Relaxed) == 6 && gate.0.is_set());
    });

    rule!(
        suite,
        "KeReleaseMutex function",
        "a mutex is its owner's as often as it took it, then another's",
        |rule| {
            let mutex = Arc::new(Mutex(Box::new(UnsafeCell::new(MaybeUninit::zeroed()))));
            // SAFETY: storage that stays where it is.
            unsafe { KeInitializeMutex(mutex.pointer(), 0) };
            holds!(rule, mutex.take(0) == STATUS_SUCCESS && mutex.take(0) == STATUS_SUCCESS);
            let (taken, other) = (Arc::new(AtomicBool::new(false)), mutex.clone());
            let told = taken.clone();
            let thread = Thread::start(move || {
                if other.take(5000) == STATUS_SUCCESS {
                    told.store(true, Ordering::SeqCst);
                    other.release();
                }
            });
            mutex.release();
            holds!(rule, thread.as_ref().is_some_and(|thread| thread.wait_ms(20) == STATUS_TIMEOUT));
            holds!(rule, !taken.load(Ordering::SeqCst));
            mutex.release();
            drop(thread);
            // SAFETY: initialized above.
            holds!(rule, taken.load(Ordering::SeqCst) && unsafe { KeReadStateMutex(mutex.pointer()) } == 1);
        }
    );

    rule!(
        suite,
        "KeAcquireSpinLockRaiseToDpc function",
        "one holder at a time, at DISPATCH_LEVEL, and the caller's IRQL after it",
        |rule| {
            let shared = Arc::new(Locked { lock: UnsafeCell::new(0), value: UnsafeCell::new((0u64, 0u64)) });
            let threads: Vec<_> = (0..4)
                .filter_map(|_| {
                    let shared = shared.clone();
                    Thread::start(move || {
                        for _ in 0..5000 {
                            shared.with(|(one, other)| {
                                *one += 1;
                                *other += 2;
                            });
                        }
                    })
                })
                .collect();
            holds!(rule, threads.len() == 4);
            let inside = shared.with(|_| irql::current());
            holds!(rule, inside == DISPATCH_LEVEL);
            holds!(rule, irql::current() == 0);
            drop(threads);
            holds!(rule, shared.with(|value| *value) == (20_000, 40_000));
        }
    );
}

/// A mutex in pool, where it stays.
struct Mutex(Box<UnsafeCell<MaybeUninit<KMUTEX>>>);

// SAFETY: the kernel's routines synchronize.
unsafe impl Send for Mutex {}
// SAFETY: as above.
unsafe impl Sync for Mutex {}

impl Mutex {
    fn pointer(&self) -> *mut KMUTEX {
        self.0.get().cast()
    }

    fn take(&self, milliseconds: i64) -> i32 {
        let mut time = relative_us(milliseconds * 1000);
        // SAFETY: initialized.
        unsafe { KeWaitForSingleObject(self.pointer().cast(), Executive, KernelMode as i8, 0, &mut time) }
    }

    fn release(&self) {
        // SAFETY: the caller took it.
        let _ = unsafe { KeReleaseMutex(self.pointer(), 0) };
    }
}

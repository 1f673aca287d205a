//! DPCs and timers.

use alloc::boxed::Box;
use core::{
    cell::UnsafeCell,
    hint::black_box,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use wdk_sys::{
    DISPATCH_LEVEL, KDPC, KTIMER, PKDPC, PVOID,
    ntddk::{
        KeCancelTimer, KeFlushQueuedDpcs, KeInitializeDpc, KeInitializeTimer, KeInsertQueueDpc,
        KeRemoveQueueDpc, KeSetTimerEx,
    },
};

use crate::{
    check::{Suite, holds, rule},
    irql,
    thread::{relative_us, sleep_us},
};

/// A DPC, its timer, and what its routine has seen. In pool, where it stays.
#[derive(Default)]
struct Deferred {
    dpc: UnsafeCell<KDPC>,
    timer: UnsafeCell<KTIMER>,
    runs: AtomicU32,
    irql: AtomicU32,
    arguments: AtomicU64,
}

impl Deferred {
    fn new() -> Box<Self> {
        let deferred = Box::<Self>::default();
        let context = (&raw const *deferred).cast_mut().cast();
        // SAFETY: storage that stays where it is; the routine takes a `Deferred`.
        unsafe {
            KeInitializeDpc(deferred.dpc.get(), Some(routine), context);
            KeInitializeTimer(deferred.timer.get());
        }
        deferred
    }

    fn queue(&self, one: usize, other: usize) -> bool {
        let argument = core::ptr::without_provenance_mut;
        // SAFETY: initialized.
        unsafe { KeInsertQueueDpc(self.dpc.get(), argument(one), argument(other)) != 0 }
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        // SAFETY: initialized; nothing of it runs or is queued afterwards.
        unsafe {
            let _ = KeCancelTimer(self.timer.get());
            let _ = KeRemoveQueueDpc(self.dpc.get());
            KeFlushQueuedDpcs();
        }
    }
}

unsafe extern "C" fn routine(_dpc: PKDPC, context: PVOID, one: PVOID, other: PVOID) {
    // SAFETY: a `Deferred`, which takes its DPC off before it goes.
    let deferred = unsafe { &*context.cast::<Deferred>() };
    deferred.irql.store(irql::current(), Ordering::SeqCst);
    // So that a register that the thread below relies on changes.
    let product = black_box(1.25f64) * black_box(one.addr() as f64) + black_box(other.addr() as f64);
    deferred.arguments.store(product.to_bits(), Ordering::SeqCst);
    deferred.runs.fetch_add(1, Ordering::SeqCst);
}

pub(crate) fn rules(suite: &mut Suite) {
    rule!(
        suite,
        "KeInsertQueueDpc function",
        "a DPC is queued once, and runs once, at DISPATCH_LEVEL, with its arguments",
        |rule| {
            let deferred = Deferred::new();
            // SAFETY: lowered below.
            let old = unsafe { irql::set(DISPATCH_LEVEL) };
            let (first, second) = (deferred.queue(8, 3), deferred.queue(0, 0));
            let at_once = deferred.runs();
            // SAFETY: the IRQL of before.
            unsafe { irql::set(old) };
            // SAFETY: at PASSIVE_LEVEL.
            unsafe { KeFlushQueuedDpcs() };
            holds!(rule, first && !second && at_once == 0 && deferred.runs() == 1);
            holds!(rule, deferred.irql.load(Ordering::SeqCst) == DISPATCH_LEVEL);
            holds!(rule, f64::from_bits(deferred.arguments.load(Ordering::SeqCst)) == 13.0);
        }
    );

    rule!(suite, "KeRemoveQueueDpc function", "takes a DPC that waits off its queue", |rule| {
        let deferred = Deferred::new();
        // SAFETY: lowered below.
        let old = unsafe { irql::set(DISPATCH_LEVEL) };
        let queued = deferred.queue(0, 0);
        // SAFETY: initialized.
        let (removed, again) =
            unsafe { (KeRemoveQueueDpc(deferred.dpc.get()), KeRemoveQueueDpc(deferred.dpc.get())) };
        // SAFETY: the IRQL of before.
        unsafe { irql::set(old) };
        // SAFETY: at PASSIVE_LEVEL.
        unsafe { KeFlushQueuedDpcs() };
        holds!(rule, queued && removed != 0 && again == 0 && deferred.runs() == 0);
    });

    rule!(suite, "KeSetTimerEx function", "a periodic timer goes on until it is cancelled", |rule| {
        let deferred = Deferred::new();
        // SAFETY: both are initialized.
        let was_set = unsafe { KeSetTimerEx(deferred.timer.get(), relative_us(1000), 2, deferred.dpc.get()) };
        sleep_us(60_000);
        // SAFETY: initialized.
        let was_there = unsafe { KeCancelTimer(deferred.timer.get()) };
        // SAFETY: at PASSIVE_LEVEL.
        unsafe { KeFlushQueuedDpcs() };
        let runs = deferred.runs();
        sleep_us(10_000);
        holds!(rule, was_set == 0 && was_there != 0);
        // A tick of Windows' own clock may be 15.6 ms; how late the machine is says nothing.
        holds!(rule, (2..=62).contains(&runs));
        holds!(rule, deferred.runs() == runs);
    });

    rule!(
        suite,
        "Using Floating Point in a WDM Driver",
        "arithmetic goes on as it was when DPCs came in between",
        |rule| {
            let deferred = Deferred::new();
            // SAFETY: both are initialized.
            let _ = unsafe { KeSetTimerEx(deferred.timer.get(), relative_us(100), 1, deferred.dpc.get()) };
            let sum = || (1..40_000u32).fold(0f64, |sum, step| sum + 1.0 / f64::from(black_box(step)));
            let first = sum();
            let same = (0..2000)
                .take_while(|round| *round < 3 || deferred.runs() < 5)
                .all(|_| sum().to_bits() == first.to_bits());
            holds!(rule, same && deferred.runs() >= 5);
        }
    );
}

//! System threads that run closures, and what the processor keeps for each.

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::{
    hint::black_box,
    ptr,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use wdk_sys::{
    _KWAIT_REASON::Executive,
    _MODE::KernelMode,
    HANDLE, LARGE_INTEGER, NTSTATUS, PVOID, STATUS_SUCCESS, STATUS_TIMEOUT, THREAD_ALL_ACCESS,
    ntddk::{
        KeDelayExecutionThread, KeQueryPerformanceCounter, KeWaitForSingleObject, ObReferenceObjectByHandle,
        ObfDereferenceObject, PsCreateSystemThread, PsGetCurrentThreadId, ZwClose,
    },
};

use crate::{
    check::{Suite, holds, rule},
    irql,
};

type Work = Box<dyn FnOnce() + Send>;

/// A thread that runs a closure; waited for when dropped.
pub(crate) struct Thread(PVOID);

impl Thread {
    pub(crate) fn start(work: impl FnOnce() + Send + 'static) -> Option<Self> {
        let context = Box::into_raw(Box::new(Box::new(work) as Work));
        let mut handle: HANDLE = ptr::null_mut();
        // SAFETY: `run` takes the context over, once.
        let status = unsafe {
            PsCreateSystemThread(
                &mut handle,
                THREAD_ALL_ACCESS,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
                Some(run),
                context.cast(),
            )
        };
        if status != STATUS_SUCCESS {
            // SAFETY: no thread has it.
            drop(unsafe { Box::from_raw(context) });
            return None;
        }
        let mut object = ptr::null_mut();
        // SAFETY: the handle was just opened; it is closed here alone.
        let status = unsafe {
            let status = ObReferenceObjectByHandle(
                handle,
                THREAD_ALL_ACCESS,
                ptr::null_mut(),
                KernelMode as i8,
                &mut object,
                ptr::null_mut(),
            );
            let _ = ZwClose(handle);
            status
        };
        (status == STATUS_SUCCESS).then_some(Self(object))
    }

    /// Waits for it, no longer than this.
    pub(crate) fn wait_ms(&self, milliseconds: i64) -> NTSTATUS {
        let mut time = relative_us(milliseconds * 1000);
        // SAFETY: the object is referenced.
        unsafe { KeWaitForSingleObject(self.0, Executive, KernelMode as i8, 0, &mut time) }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // SAFETY: referenced in `start`; without a time it waits for the end.
        let _ = unsafe { KeWaitForSingleObject(self.0, Executive, KernelMode as i8, 0, ptr::null_mut()) };
        // SAFETY: as above, given up here alone.
        unsafe { ObfDereferenceObject(self.0) };
    }
}

unsafe extern "C" fn run(context: PVOID) {
    // SAFETY: made by `start`, for this call.
    let work = unsafe { Box::from_raw(context.cast::<Work>()) };
    work();
}

/// A time from now.
pub(crate) fn relative_us(microseconds: i64) -> LARGE_INTEGER {
    LARGE_INTEGER { QuadPart: -10 * microseconds }
}

pub(crate) fn sleep_us(microseconds: i64) {
    let mut time = relative_us(microseconds);
    // SAFETY: at PASSIVE_LEVEL, as all that calls this.
    let _ = unsafe { KeDelayExecutionThread(KernelMode as i8, 0, &mut time) };
}

fn now_us() -> i64 {
    let mut frequency = LARGE_INTEGER::default();
    // SAFETY: storage for the frequency; both unions hold a number.
    unsafe {
        let now = KeQueryPerformanceCounter(&mut frequency).QuadPart;
        (i128::from(now) * 1_000_000 / i128::from(frequency.QuadPart.max(1))) as i64
    }
}

/// A sum that comes out otherwise as soon as one XMM register is lost once.
fn series(from: u32) -> f64 {
    let mut sums = [0f64; 8];
    for step in 0..20_000u32 {
        let x = f64::from(black_box(step) + from);
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += 1.0 / (x + lane as f64 + 1.0);
        }
    }
    sums.iter().sum()
}

pub(crate) fn rules(suite: &mut Suite) {
    rule!(
        suite,
        "PsCreateSystemThread function",
        "the routine gets its context and runs at PASSIVE_LEVEL in a thread of its own",
        |rule| {
            let seen = Arc::new((AtomicU64::new(u64::MAX), AtomicUsize::new(0)));
            let told = seen.clone();
            let thread = Thread::start(move || {
                // SAFETY: asks for a number.
                let id = unsafe { PsGetCurrentThreadId() };
                told.0.store(irql::current().into(), Ordering::SeqCst);
                told.1.store(id.addr(), Ordering::SeqCst);
            });
            holds!(rule, thread.is_some_and(|thread| thread.wait_ms(5000) == STATUS_SUCCESS));
            holds!(rule, seen.0.load(Ordering::SeqCst) == 0);
            // SAFETY: asks for a number.
            let own = unsafe { PsGetCurrentThreadId() }.addr();
            let other = seen.1.load(Ordering::SeqCst);
            holds!(rule, other != 0 && other != own);
            // The closure went with the thread.
            holds!(rule, Arc::strong_count(&seen) == 1);
        }
    );

    rule!(
        suite,
        "KeWaitForSingleObject function",
        "a thread is signaled when it has ended and not before",
        |rule| {
            let go = Arc::new(AtomicU64::new(0));
            let told = go.clone();
            let thread = Thread::start(move || {
                while told.load(Ordering::Acquire) == 0 {
                    sleep_us(1000);
                }
            });
            let Some(thread) = thread else {
                holds!(rule, thread.is_some());
                return;
            };
            holds!(rule, thread.wait_ms(20) == STATUS_TIMEOUT);
            go.store(1, Ordering::Release);
            holds!(rule, thread.wait_ms(5000) == STATUS_SUCCESS);
            holds!(rule, thread.wait_ms(0) == STATUS_SUCCESS);
        }
    );

    rule!(suite, "KeDelayExecutionThread function", "waits at least as long as it is told", |rule| {
        for microseconds in [500, 3000, 20_000] {
            let before = now_us();
            sleep_us(microseconds);
            let took = now_us() - before;
            // A tick of the clock less is allowed to no one; a millisecond for the two clocks to disagree.
            holds!(rule, took + 1000 >= microseconds);
        }
    });

    rule!(
        suite,
        "Using Floating Point in a WDM Driver",
        "a thread's XMM registers are its own, whoever runs in between",
        |rule| {
            let alone: Vec<u64> = (0..4).map(|from| series(from).to_bits()).collect();
            let sums: Arc<[AtomicU64; 4]> = Arc::default();
            let threads: Vec<_> = (0..4usize)
                .filter_map(|number| {
                    let sums = sums.clone();
                    Thread::start(move || {
                        let mut all = 0u64;
                        for _ in 0..10 {
                            all ^= series(number as u32).to_bits().rotate_left(7 * all.count_ones() % 64);
                        }
                        let _ = black_box(all);
                        if let Some(sum) = sums.get(number) {
                            sum.store(series(number as u32).to_bits(), Ordering::SeqCst);
                        }
                    })
                })
                .collect();
            holds!(rule, threads.len() == 4);
            drop(threads);
            holds!(rule, sums.iter().zip(&alone).all(|(sum, alone)| sum.load(Ordering::SeqCst) == *alone));
        }
    );

    rule!(suite, "Interlocked operations", "four threads lose no addition", |rule| {
        let sum = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (1..=4u64)
            .filter_map(|step| {
                let sum = sum.clone();
                Thread::start(move || {
                    for _ in 0..20_000 {
                        sum.fetch_add(step, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        holds!(rule, threads.len() == 4);
        drop(threads);
        holds!(rule, sum.load(Ordering::SeqCst) == 20_000 * (1 + 2 + 3 + 4));
    });
}

//! Threads, seen to run.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use super::super::processor;
use super::*;
use crate::selftest::{check, kernel_test};

kernel_test! {
    fn threads_run_and_are_waited_for() {
        static SUM: AtomicU32 = AtomicU32::new(0);
        SUM.store(0, Ordering::Relaxed);
        let add = |n| {
            move || {
                SUM.fetch_add(n, Ordering::Relaxed);
            }
        };
        let threads: Vec<_> =
            (1..=20).filter_map(|n| spawn("adder", NORMAL_PRIORITY, add(n)).ok()).collect();
        check!(threads.len() == 20);
        check!(threads.iter().all(|thread| thread.join(Some(5_000_000_000))));
        check!(SUM.load(Ordering::Relaxed) == 210);
    }

    fn every_processor_runs_threads() {
        for number in 0..processor::count() {
            let seen = alloc::sync::Arc::new(AtomicU32::new(99));
            let there = alloc::sync::Arc::clone(&seen);
            let thread = spawn("visitor", NORMAL_PRIORITY, move || {
                set_affinity(1 << number);
                there.store(processor::current().number() as u32, Ordering::Relaxed);
            });
            check!(thread.is_ok_and(|thread| thread.join(Some(5_000_000_000))));
            check!(seen.load(Ordering::Relaxed) == number as u32);
        }
    }

    fn a_more_important_thread_runs_at_once() {
        let old = set_affinity(1);
        let ran = alloc::sync::Arc::new(AtomicU32::new(0));
        let shared = alloc::sync::Arc::clone(&ran);
        let thread = spawn("urgent", NORMAL_PRIORITY + 8, move || {
            set_affinity(1);
            shared.store(1, Ordering::Relaxed);
        });
        check!(thread.is_ok());
        if processor::count() == 1 {
            check!(ran.load(Ordering::Relaxed) == 1);
        }
        check!(thread.is_ok_and(|thread| thread.join(Some(5_000_000_000))));
        set_affinity(old);
    }

    fn threads_of_one_priority_take_turns() {
        static TURNS: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];
        static STOP: AtomicU32 = AtomicU32::new(0);
        STOP.store(0, Ordering::Relaxed);
        let spinner = |index: usize| {
            spawn("spinner", NORMAL_PRIORITY - 1, move || {
                set_affinity(1);
                while STOP.load(Ordering::Relaxed) == 0 {
                    TURNS[index].fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let threads = [spinner(0), spinner(1)];
        sleep_ns(100_000_000);
        STOP.store(1, Ordering::Relaxed);
        for thread in threads {
            check!(thread.is_ok_and(|thread| thread.join(Some(5_000_000_000))));
        }
        check!(TURNS.iter().all(|turns| turns.load(Ordering::Relaxed) > 0));
    }

    fn what_ended_threads_held_comes_back() {
        let stacks = || {
            for _ in 0..10 {
                if let Ok(thread) = spawn("short", NORMAL_PRIORITY, || {}) {
                    thread.join(None);
                }
            }
            reap();
            crate::mm::frame::free_count()
        };
        // The first round makes page tables and the heap grow.
        stacks();
        let before = stacks();
        check!(stacks() >= before);
    }

    fn xmm_registers_survive_a_thread_switch() {
        let mut kept: u64;
        let other = spawn("clobber", NORMAL_PRIORITY + 8, || {
            set_affinity(1);
            // SAFETY: the kernel itself uses no XMM register; the thread's own state is lost with it.
            unsafe { core::arch::asm!("pcmpeqd xmm6, xmm6", "pcmpeqd xmm15, xmm15") };
        });
        let old = set_affinity(1);
        // SAFETY: as above; the sleep below is a call that keeps to the ABI by itself.
        unsafe { core::arch::asm!("movq xmm6, {}", in(reg) 0x1234_5678_9ABC_DEF0_u64) };
        sleep_ns(1_000_000);
        // SAFETY: as above.
        unsafe { core::arch::asm!("movq {}, xmm6", out(reg) kept) };
        set_affinity(old);
        check!(kept == 0x1234_5678_9ABC_DEF0);
        check!(other.is_ok_and(|thread| thread.join(Some(5_000_000_000))));
    }
}

//! Time: the processor's counter for telling it, the local APIC's timer for being woken.
//!
//! Neither says how fast it runs, so both are measured once against the one clock whose speed is known, the
//! PC's interval timer. A host may take the processor away in the middle of a reading; each reading is
//! therefore bracketed by the counter itself, and the tightest of several is believed.

use core::sync::atomic::{AtomicU64, Ordering};

use super::apic;
use crate::arch::port;
use crate::ldr::export::export;
use crate::selftest::{check, kernel_test};

/// Counts per second of the 8254 interval timer.
const PIT_HZ: u64 = 1_193_182;
const PIT_COMMAND: u16 = 0x43;
const PIT_CHANNEL_2: u16 = 0x42;
const SPEAKER: u16 = 0x61;
/// In [`SPEAKER`]: channel 2 has counted down to 0.
const SPEAKER_OUT: u8 = 1 << 5;

/// How long the counter's speed is measured at least, in counts of the interval timer: 3 ms.
const WINDOW: u32 = (PIT_HZ * 3 / 1000) as u32;
/// How long the timer's is, against the counter's: 1/4096 of a second.
const TIMER_WINDOW_SHIFT: u32 = 12;

const NS_PER_SECOND: u64 = 1_000_000_000;

static BOOT_COUNT: AtomicU64 = AtomicU64::new(0);
static COUNTER_HZ: AtomicU64 = AtomicU64::new(0);
static TIMER_HZ: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds per count of the processor's counter, shifted left by 32.
static NS_PER_COUNT: AtomicU64 = AtomicU64::new(0);

/// The processor's time stamp counter.
#[inline]
pub fn counter() -> u64 {
    // SAFETY: every x86-64 processor has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// A device's count, and the processor's counter at that moment.
#[derive(Clone, Copy)]
struct Reading {
    count: u32,
    counter: u64,
}

/// Of several readings, the one that took the shortest time. One piece of code for all devices and rounds: an emulator
/// translates each copy before it runs.
#[inline(never)]
fn reading(read: fn() -> u32) -> Reading {
    let once = || {
        let before = counter();
        let count = read();
        let width = counter().wrapping_sub(before);
        (width, Reading { count, counter: before.wrapping_add(width / 2) })
    };
    let more = core::hint::black_box(7);
    let mut best = (u64::MAX, Reading { count: 0, counter: 0 });
    for _ in 0..=more {
        best = core::cmp::min_by_key(best, once(), |reading| reading.0);
    }
    best.1
}

/// The interval timer's count.
fn interval() -> u32 {
    port::write_u8(PIT_COMMAND, 0x80); // latch channel 2
    u16::from_le_bytes([(); 2].map(|()| port::read_u8(PIT_CHANNEL_2))).into()
}

/// The counter's speed, being measured: while the interval timer counts down, the start goes on.
pub struct Measurement {
    speaker: u8,
    start: Reading,
}

impl Measurement {
    /// Has the interval timer count.
    pub fn begin() -> Self {
        let speaker = port::read_u8(SPEAKER);
        port::write_u8(SPEAKER, (speaker & !2) | 1); // channel 2 counts, silently
        port::write_u8(PIT_COMMAND, 0xB0); // channel 2, both bytes, count down once
        port::write_u8(PIT_CHANNEL_2, 0xFF);
        port::write_u8(PIT_CHANNEL_2, 0xFF);
        Self { speaker, start: reading(interval) }
    }

    /// Counts of the interval timer, and of the counter meanwhile.
    fn end(mut self) -> (u64, u64) {
        loop {
            let now = reading(interval);
            if port::read_u8(SPEAKER) & SPEAKER_OUT != 0 {
                // It took longer than the timer counts, 55 ms: once more, without anything else.
                self = Self { speaker: self.speaker, ..Self::begin() };
                continue;
            }
            let elapsed = self.start.count.wrapping_sub(now.count);
            if elapsed >= WINDOW {
                port::write_u8(SPEAKER, self.speaker & !3);
                return (elapsed.into(), now.counter.wrapping_sub(self.start.counter));
            }
        }
    }
}

/// Ends the measurement, measures the timer against the counter, and starts time at 0. On the first processor, its APIC on.
pub fn init(measurement: Measurement) {
    apic::timer_run_free();
    let first = reading(apic::timer_current);
    let (elapsed, counts) = measurement.end();
    let counter_hz = (counts * PIT_HZ / elapsed).max(1);
    let last = loop {
        let last = reading(apic::timer_current);
        if last.counter.wrapping_sub(first.counter) >= counter_hz >> TIMER_WINDOW_SHIFT {
            break last;
        }
    };
    apic::timer_arm(0);
    let timer_counts = u128::from(first.count.wrapping_sub(last.count)) * u128::from(counter_hz);
    let timer_hz = timer_counts / u128::from(last.counter.wrapping_sub(first.counter).max(1));

    COUNTER_HZ.store(counter_hz, Ordering::Relaxed);
    TIMER_HZ.store((timer_hz as u64).max(1), Ordering::Relaxed);
    NS_PER_COUNT
        .store(((u128::from(NS_PER_SECOND) << 32) / u128::from(counter_hz)) as u64, Ordering::Relaxed);
    BOOT_COUNT.store(last.counter, Ordering::Relaxed);
}

/// Counts per second of [`counter`].
pub fn counter_frequency() -> u64 {
    COUNTER_HZ.load(Ordering::Relaxed)
}

/// Counts per second of the local APIC's timer.
pub fn timer_frequency() -> u64 {
    TIMER_HZ.load(Ordering::Relaxed)
}

/// Nanoseconds since the kernel began.
#[inline]
pub fn now_ns() -> u64 {
    let counts = counter().saturating_sub(BOOT_COUNT.load(Ordering::Relaxed));
    ((u128::from(counts) * u128::from(NS_PER_COUNT.load(Ordering::Relaxed))) >> 32) as u64
}

/// Sets this processor's timer to interrupt in `ns`, or as late as it can; the clock asks again then.
pub fn arm_in(ns: u64) {
    let counts = u128::from(ns) * u128::from(timer_frequency()) / u128::from(NS_PER_SECOND);
    apic::timer_arm((counts.min(u128::from(u32::MAX)) as u32).max(1));
}

/// Keeps this processor's timer from interrupting.
pub fn disarm() {
    apic::timer_arm(0);
}

/// Waits without giving the processor away. Does not depend on interrupts.
pub fn stall_ns(ns: u64) {
    let end = now_ns().saturating_add(ns);
    while now_ns() < end {
        core::hint::spin_loop();
    }
}

/// Seconds since 1970, from the machine's clock chip.
pub fn wall_clock_seconds() -> u64 {
    let cmos = |register: u8| {
        port::write_u8(0x70, register);
        u64::from(port::read_u8(0x71))
    };
    let binary = cmos(0x0B) & 4 != 0;
    let read = |register| {
        let value = cmos(register);
        if binary { value } else { (value >> 4) * 10 + (value & 0xF) }
    };
    // Not while the chip is counting on.
    for _ in 0..10_000 {
        if cmos(0x0A) & 0x80 == 0 {
            break;
        }
    }
    let (second, minute, hour) = (read(0), read(2), read(4) % 24);
    let (day, month, year) = (read(7).max(1), read(8).clamp(1, 12), 2000 + read(9));
    // Days from the civil date: years begin in March, so that the leap day comes last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    ((days * 24 + hour) * 60 + minute) * 60 + second
}

export! { in HAL;
    /// *KeStallExecutionProcessor function (wdm.h)*: waits without giving the processor away.
    pub unsafe extern "win64" fn KeStallExecutionProcessor(microseconds: u32) {
        stall_ns(u64::from(microseconds) * 1000);
    }

    /// *KeQueryPerformanceCounter function (wdm.h)*: counts since the start, and counts per second.
    pub unsafe extern "win64" fn KeQueryPerformanceCounter(frequency: *mut i64) -> i64 {
        if !frequency.is_null() {
            // SAFETY: the caller's.
            unsafe { frequency.write(counter_frequency().cast_signed()) };
        }
        counter().saturating_sub(BOOT_COUNT.load(Ordering::Relaxed)).cast_signed()
    }
}

kernel_test! {
    fn the_two_clocks_agree() {
        let (start, timer) = (now_ns(), timer_frequency());
        stall_ns(2_000_000);
        check!(now_ns() - start >= 2_000_000);
        // Every emulated local APIC counts at 1 GHz.
        check!((900_000_000..1_100_000_000).contains(&timer));
    }
}

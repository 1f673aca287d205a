//! The two clocks of a flight record, read for the price of one instruction.
//!
//! Every event of a card bears the guest's time and the host's. Asking QEMU for the one and the kernel for the other
//! costs more than the access that is recorded. But both follow the host's monotonic clock, and that follows the
//! processor's time stamp counter: so the counter is read, and the clocks are worked out from it. About once in a
//! millisecond they are read themselves, and what had been worked out is set right.
//!
//! That holds where the guest's time runs as the host's does. Where it does not (`-icount`, another accelerator, a host
//! whose counter the kernel itself does not trust) and while the machine is stopped, both clocks are read each time.
//!
//! Neither clock of a record is ever behind that of the one before, except where a snapshot was loaded.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};

use crate::abi::CLOCK_VIRTUAL;
use crate::symbols::{find, qemu};

/// When something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// The guest's time, in nanoseconds. It stands still while the guest is stopped.
    pub(crate) virtual_ns: u64,
    /// The host's monotonic clock, in nanoseconds.
    pub(crate) host_ns: u64,
}

/// How long the clocks are worked out before they are read again.
const TRUST_NS: u64 = 1_000_000;
/// The shortest time over which the counter's speed can be told.
const SHORTEST_WINDOW_NS: u64 = 10_000_000;
/// The time after which its speed is told anew.
const WINDOW_NS: u64 = 1_000_000_000;
/// A reading that took longer was interrupted.
const UNDISTURBED_NS: u64 = 500;

/// What is known of the clocks. It changes under the big lock, under which every event is; so the order of the single
/// loads and stores does not matter.
struct Known {
    /// The guest's time can be worked out: the machine runs, and its time does as the host's.
    running: AtomicBool,
    /// A moment, in ticks of the counter and on the host's clock.
    ticks: AtomicU64,
    host_ns: AtomicU64,
    /// So many ticks from then, the clocks are to be read again; 0 while the counter's speed is not known.
    trusted_ticks: AtomicU64,
    /// Nanoseconds of a tick, 32 bits of them behind the point.
    scale: AtomicU64,
    /// The guest's time is so much ahead of the host's, while it runs.
    ahead_ns: AtomicI64,
    /// An earlier moment, from which the speed is told.
    first_ticks: AtomicU64,
    first_ns: AtomicU64,
    /// The last event's times.
    last_virtual_ns: AtomicU64,
    last_host_ns: AtomicU64,
    /// The guest's time when it was last stopped.
    stopped_ns: AtomicU64,
}

static KNOWN: Known = Known::nothing();

fn get(value: &AtomicU64) -> u64 {
    value.load(Ordering::Relaxed)
}

fn set(value: &AtomicU64, to: u64) {
    value.store(to, Ordering::Relaxed);
}

/// The clocks, for an event. The big lock is held.
///
/// Not for callbacks of translated code: with `-icount` the time is only known between instructions, and QEMU
/// ends itself when it is asked within one.
pub(crate) fn now() -> Times {
    let known = &KNOWN;
    let times = if known.running.load(Ordering::Relaxed) {
        let since = ticks().wrapping_sub(get(&known.ticks));
        let host_ns = if since < get(&known.trusted_ticks) {
            get(&known.host_ns) + scaled(since, get(&known.scale))
        } else {
            known.read()
        };
        Times { virtual_ns: host_ns.saturating_add_signed(known.ahead_ns.load(Ordering::Relaxed)), host_ns }
    } else {
        let virtual_ns = virtual_ns();
        known.look_for_step_back(virtual_ns);
        Times { virtual_ns, host_ns: host_ns() }
    };
    let times = Times {
        virtual_ns: times.virtual_ns.max(get(&known.last_virtual_ns)),
        host_ns: times.host_ns.max(get(&known.last_host_ns)),
    };
    set(&known.last_virtual_ns, times.virtual_ns);
    set(&known.last_host_ns, times.host_ns);
    times
}

/// The machine starts or stops. The big lock is held.
pub(crate) fn state_changed(running: bool) {
    let known = &KNOWN;
    let now = virtual_ns();
    if !running {
        known.running.store(false, Ordering::Relaxed);
        set(&known.stopped_ns, now);
        return;
    }
    known.look_for_step_back(now);
    if !follows_the_host() {
        return;
    }
    // Neither clock can be read at the moment that the other is; of several tries, the quickest is the closest.
    let tries = (0..8).map(|_| {
        let before = host_ns();
        let guest = virtual_ns();
        let after = host_ns();
        let between = before + after.saturating_sub(before) / 2;
        (after.saturating_sub(before), guest.cast_signed().wrapping_sub(between.cast_signed()))
    });
    if let Some((_, ahead_ns)) = tries.min_by_key(|(took, _)| *took) {
        known.ahead_ns.store(ahead_ns, Ordering::Relaxed);
        set(&known.trusted_ticks, 0);
        known.running.store(true, Ordering::Relaxed);
    }
}

impl Known {
    const fn nothing() -> Self {
        const fn zero() -> AtomicU64 {
            AtomicU64::new(0)
        }
        Self {
            running: AtomicBool::new(false),
            ticks: zero(),
            host_ns: zero(),
            trusted_ticks: zero(),
            scale: zero(),
            ahead_ns: AtomicI64::new(0),
            first_ticks: zero(),
            first_ns: zero(),
            last_virtual_ns: zero(),
            last_host_ns: zero(),
            stopped_ns: zero(),
        }
    }

    /// The guest's time stands still while the machine is stopped: where it is behind that, a snapshot was loaded.
    fn look_for_step_back(&self, virtual_ns: u64) {
        if virtual_ns < get(&self.stopped_ns) {
            set(&self.stopped_ns, virtual_ns);
            set(&self.last_virtual_ns, 0);
        }
    }

    /// Reads the host's clock and sets right what is worked out from it.
    #[cold]
    #[inline(never)]
    fn read(&self) -> u64 {
        let Some((ticks, host_ns)) = undisturbed() else {
            set(&self.trusted_ticks, 0);
            return host_ns();
        };
        let window = host_ns.saturating_sub(get(&self.first_ns));
        if get(&self.first_ns) == 0 {
            set(&self.first_ticks, ticks);
            set(&self.first_ns, host_ns);
        } else if window >= SHORTEST_WINDOW_NS {
            match scale(ticks.wrapping_sub(get(&self.first_ticks)), window) {
                Some(scale) => {
                    set(&self.scale, scale);
                    set(&self.trusted_ticks, (TRUST_NS << 32) / scale);
                }
                None => set(&self.trusted_ticks, 0),
            }
            if window >= WINDOW_NS {
                set(&self.first_ticks, ticks);
                set(&self.first_ns, host_ns);
            }
        }
        set(&self.ticks, ticks);
        set(&self.host_ns, host_ns);
        host_ns
    }
}

/// The counter and the host's clock at one moment, if nothing came in between.
fn undisturbed() -> Option<(u64, u64)> {
    let mut before = host_ns();
    for _ in 0..4 {
        let ticks = ticks();
        let after = host_ns();
        if after.saturating_sub(before) < UNDISTURBED_NS {
            return Some((ticks, before + (after - before) / 2));
        }
        before = after;
    }
    None
}

/// Nanoseconds of a tick, 32 bits of them behind the point; `None` for a counter that did not count.
fn scale(ticks: u64, ns: u64) -> Option<u64> {
    let scale = (u128::from(ns) << 32).checked_div(u128::from(ticks))?;
    // Slower than a nanosecond in 100, or faster than 16 in one, is no processor's counter.
    u64::try_from(scale).ok().filter(|scale| (1 << 28..100 << 32).contains(scale))
}

fn scaled(ticks: u64, scale: u64) -> u64 {
    ((u128::from(ticks) * u128::from(scale)) >> 32) as u64
}

/// The processor's time stamp counter.
fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has it, and nothing that Linux runs as a user's program is kept from it unless it
    // asked to be.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Whether the guest's time runs as the host's clock does while the machine runs, and that as the counter.
fn follows_the_host() -> bool {
    static COUNTER: OnceLock<bool> = OnceLock::new();
    // The kernel has checked that the counters of all processors agree and never rest, where it lives by them itself.
    let place = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let counter = || std::fs::read_to_string(place).is_ok_and(|name| name.trim() == "tsc");
    // Both are C's `bool` and `int` that are set before any device is made. Where a QEMU does not have the second, nothing
    // is assumed of its clock.
    let (tcg, icount) = (find(c"tcg_allowed").cast::<u8>(), find(c"use_icount").cast::<i32>());
    if tcg.is_null() || icount.is_null() {
        return false;
    }
    // SAFETY: QEMU's variable of this name, a `bool` in every version of the tested range.
    let tcg = unsafe { tcg.read() } != 0;
    // SAFETY: QEMU's variable of this name, an `enum` in every version of the tested range.
    let icount = unsafe { icount.read() } != 0;
    tcg && !icount && *COUNTER.get_or_init(counter)
}

/// The guest's time, asked of QEMU. As for [`now`].
pub(crate) fn virtual_ns() -> u64 {
    // SAFETY: any thread may read a clock of QEMU's; the clock exists.
    let ns = unsafe { (qemu().qemu_clock_get_ns)(CLOCK_VIRTUAL) };
    u64::try_from(ns).unwrap_or(0)
}

/// The host's monotonic clock, asked of the kernel.
fn host_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanoseconds) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_scaled_as_finely_as_a_millisecond_needs() {
        for ghz in [1.0, 2.45, 3.999, 5.7] {
            let ticks = |ns: f64| (ns * ghz) as u64;
            let scale = scale(ticks(1e9), 1_000_000_000).unwrap();
            assert!(scaled(ticks(1e6), scale).abs_diff(1_000_000) <= 2, "{ghz} GHz");
        }
        assert_eq!(scale(0, 1_000_000), None);
        assert_eq!(scale(u64::MAX, 1), None);
        assert_eq!(scale(1, u64::MAX), None);
    }

    #[test]
    fn the_host_s_clock_as_worked_out_is_the_host_s_clock() {
        let known = Known::nothing();
        known.read();
        std::thread::sleep(std::time::Duration::from_nanos(SHORTEST_WINDOW_NS));
        known.read();
        assert!(get(&known.trusted_ticks) > 0, "its speed is known");
        let worst = (0..2000).filter_map(|_| {
            let (ticks, host_ns) = undisturbed()?;
            let since = ticks.wrapping_sub(get(&known.ticks));
            if since >= get(&known.trusted_ticks) {
                known.read();
                return None;
            }
            Some((get(&known.host_ns) + scaled(since, get(&known.scale))).abs_diff(host_ns))
        });
        let worst = worst.max().unwrap();
        assert!(worst < 2 * UNDISTURBED_NS, "off by {worst} ns");
    }
}

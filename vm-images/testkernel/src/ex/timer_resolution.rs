//! How fine the system's timers are: what drivers ask for, and what they are told.
//!
//! Windows' timers expire on clock ticks, which a driver may ask to come more often. Timers of this guest expire when they are due,
//! whatever the tick; so the resolution that is asked for is kept, and is what every timer is better than.

use crate::ke::clock::TICK;
use crate::ke::lock::InterruptLock;
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE};
use crate::selftest::{check, kernel_test};

/// The finest there is, in 100 ns.
const FINEST: u32 = 5_000;
/// The one that is there when nobody asks.
const COARSEST: u32 = TICK as u32;

/// What has been asked for, and by how many.
struct Asked {
    resolution: u32,
    by: u32,
}

static ASKED: InterruptLock<Asked> = InterruptLock::new(Asked { resolution: COARSEST, by: 0 });

export! {
    /// *ExSetTimerResolution function (wdm.h)*: asks for a resolution, in 100 ns, or takes that back; the one now. It is as fine as the
    /// finest that was asked for, until everybody has taken it back.
    pub unsafe extern "win64" fn ExSetTimerResolution(desired: u32, set: BOOLEAN) -> u32 {
        let mut asked = ASKED.lock();
        if set != FALSE {
            asked.by += 1;
            asked.resolution = asked.resolution.min(desired.clamp(FINEST, COARSEST));
        } else {
            asked.by = asked.by.saturating_sub(1);
            if asked.by == 0 {
                asked.resolution = COARSEST;
            }
        }
        asked.resolution
    }

    /// *ExQueryTimerResolution function (wdm.h)*: the coarsest, the finest, and the one now.
    pub unsafe extern "win64" fn ExQueryTimerResolution(maximum: *mut u32, minimum: *mut u32, current: *mut u32) {
        let now = ASKED.lock().resolution;
        // SAFETY: the caller gives storage for all three.
        unsafe {
            maximum.write(COARSEST);
            minimum.write(FINEST);
            current.write(now);
        }
    }
}

kernel_test! {
    /// *ExSetTimerResolution function (wdm.h)*: the finest wins until all have taken theirs back.
    fn the_finest_resolution_that_is_asked_for_wins() {
        // SAFETY: at any time.
        let set = |desired, set| unsafe { ExSetTimerResolution(desired, set) };
        check!(set(50_000, 1) == 50_000 && set(10_000, 1) == 10_000 && set(90_000, 1) == 10_000);
        check!(set(0, FALSE) == 10_000 && set(0, FALSE) == 10_000 && set(0, FALSE) == COARSEST);
        check!(set(1, 1) == FINEST && set(0, FALSE) == COARSEST && set(u32::MAX, 1) == COARSEST && set(0, FALSE) == COARSEST);
    }
}

//! The PC's speaker: channel 2 of the 8254 interval timer, through a gate.

use crate::arch::port;
use crate::ke::lock::InterruptLock;
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE, TRUE};
use crate::selftest::{check, kernel_test};

/// What the timer counts, in hertz.
const TIMER_HZ: u32 = 1_193_182;
const CHANNEL_2: u16 = 0x42;
const COMMAND: u16 = 0x43;
/// Bit 0 lets channel 2 count, bit 1 lets the speaker hear it.
const GATE: u16 = 0x61;

static SPEAKER: InterruptLock<()> = InterruptLock::new(());

/// What the timer divides by for a tone; none for one that is too low or too high.
fn divisor(frequency: u32) -> Option<u16> {
    u16::try_from(TIMER_HZ / frequency.max(1)).ok().filter(|&divisor| divisor > 0)
}

export! { in HAL;
    /// *HalMakeBeep function (ntddk.h)*: a tone of that many hertz until the next call; none for 0. FALSE where it cannot be had.
    pub unsafe extern "win64" fn HalMakeBeep(frequency: u32) -> BOOLEAN {
        let _speaker = SPEAKER.lock();
        let gate = port::read_u8(GATE);
        port::write_u8(GATE, gate & !3);
        if frequency == 0 {
            return TRUE;
        }
        let Some(divisor) = divisor(frequency) else { return FALSE };
        // Channel 2, both bytes, square wave.
        port::write_u8(COMMAND, 0xB6);
        divisor.to_le_bytes().into_iter().for_each(|byte| port::write_u8(CHANNEL_2, byte));
        port::write_u8(GATE, gate | 3);
        TRUE
    }

    /// *KeFlushWriteBuffer function (wdm.h)*: what was written before is seen before what comes after.
    pub unsafe extern "win64" fn KeFlushWriteBuffer() {
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    }
}

kernel_test! {
    fn tones_that_the_timer_cannot_make_are_refused() {
        check!(divisor(1000) == Some(1193) && divisor(TIMER_HZ) == Some(1));
        check!(divisor(10).is_none() && divisor(TIMER_HZ + 1).is_none());
        // SAFETY: at any time.
        unsafe { check!(HalMakeBeep(5) == FALSE && HalMakeBeep(0) == TRUE && port::read_u8(GATE) & 3 == 0) };
    }
}

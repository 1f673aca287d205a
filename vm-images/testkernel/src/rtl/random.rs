//! Numbers that look like chance: a seed, and the next one after it.

use crate::ldr::export::export;
use crate::selftest::{check, kernel_test};

/// `MAXLONG`: numbers lie below it.
const MODULUS: u64 = 0x7FFF_FFFF;

/// The linear congruential generator modulo 2^31-1 that the page of RtlUniform describes.
fn next(seed: u32) -> u32 {
    ((0x7FFF_FFED * u64::from(seed) + 0x7FFF_FFC3) % MODULUS) as u32
}

/// # Safety
/// `seed` must lead to a number.
unsafe fn draw(seed: *mut u32) -> u32 {
    // SAFETY: the caller's contract.
    unsafe {
        let number = next(seed.read());
        seed.write(number);
        number
    }
}

export! {
    /// *RtlRandomEx function (ntddk.h)*: from 0 to MAXLONG-1; the seed is another afterwards.
    pub unsafe extern "win64" fn RtlRandomEx(seed: *mut u32) -> u32 {
        // SAFETY: the caller gives a seed.
        unsafe { draw(seed) }
    }

    /// *RtlRandom function (ntifs.h)*: likewise.
    pub unsafe extern "win64" fn RtlRandom(seed: *mut u32) -> u32 {
        // SAFETY: the caller gives a seed.
        unsafe { draw(seed) }
    }
}

kernel_test! {
    fn numbers_stay_below_the_largest_and_do_not_repeat_at_once() {
        let mut seed = 1;
        let mut last = 0;
        for _ in 0..1000 {
            // SAFETY: a local.
            let number = unsafe { RtlRandomEx(&raw mut seed) };
            check!(u64::from(number) < MODULUS && number != last && number == seed);
            last = number;
        }
    }
}

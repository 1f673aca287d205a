//! The machine that presses the button: a schedule of samples, paced by the guest's acknowledgements.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::saved;

/// The longest gap and the largest jitter, in virtual nanoseconds: one second.
pub const MAX_GAP_NS: u64 = 1_000_000_000;

/// A storm to be started: every schedule is a pure function of this and of when the guest acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StormSpec {
    /// Virtual nanoseconds from an acknowledgement to the next sample, at most [`MAX_GAP_NS`].
    pub gap_ns: u64,
    /// At most so many nanoseconds more, drawn for each sample, at most [`MAX_GAP_NS`].
    pub jitter_ns: u64,
    /// Samples in all; 0 for no end.
    pub count: u64,
    /// Seed of the jitter.
    pub seed: u64,
}

/// Why a storm cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StormSpecError {
    /// The gap is longer than [`MAX_GAP_NS`].
    #[error("gap_ns is {0}, more than {MAX_GAP_NS}")]
    Gap(u64),
    /// The jitter is larger than [`MAX_GAP_NS`].
    #[error("jitter_ns is {0}, more than {MAX_GAP_NS}")]
    Jitter(u64),
}

impl StormSpec {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`StormSpecError`] names the first value that is out of range.
    pub const fn check(&self) -> Result<(), StormSpecError> {
        if self.gap_ns > MAX_GAP_NS {
            return Err(StormSpecError::Gap(self.gap_ns));
        }
        if self.jitter_ns > MAX_GAP_NS {
            return Err(StormSpecError::Jitter(self.jitter_ns));
        }
        Ok(())
    }
}

/// What a running storm waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wait {
    /// The guest's acknowledgement.
    Acknowledgement,
    /// A virtual time.
    Until(u64),
    /// Interrupts to be enabled again: the last sample was suppressed, or forgotten by a reset.
    Enable,
}

/// A running storm.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Storm {
    #[serde(deserialize_with = "saved::spec")]
    pub(crate) spec: StormSpec,
    pub(crate) wait: Wait,
    taken: u64,
    random: SplitMix64,
}

impl Storm {
    pub(crate) const fn new(spec: StormSpec) -> Self {
        Self { spec, wait: Wait::Enable, taken: 0, random: SplitMix64(spec.seed) }
    }

    /// Counts a sample; `true` if it was the last one.
    pub(crate) fn take(&mut self) -> bool {
        self.taken += 1;
        self.taken == self.spec.count
    }

    /// When the next sample is due, after an acknowledgement at `now`.
    pub(crate) fn next_due(&mut self, now: u64) -> u64 {
        let jitter = self.random.up_to(self.spec.jitter_ns);
        now.saturating_add(self.spec.gap_ns).saturating_add(jitter)
    }
}

/// Steele, Lea and Flood's SplitMix64. It is written out here because a seed names a schedule: a run is
/// replayed by its seed, so the numbers may never change with a library's version.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..=max`. Scaling by multiplication favours some numbers by less than one part in 2^34
    /// for any jitter that is allowed.
    fn up_to(&mut self, max: u64) -> u64 {
        let scaled = u128::from(self.next()) * (u128::from(max) + 1);
        (scaled >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_its_published_numbers() {
        let mut random = SplitMix64(1_234_567);
        let first = [random.next(), random.next(), random.next()];
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn jitter_reaches_both_ends_and_no_further() {
        let mut random = SplitMix64(1);
        let mut seen = [0u32; 4];
        for _ in 0..1000 {
            seen[random.up_to(3) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| n > 150), "{seen:?}");
        assert_eq!(random.up_to(0), 0);
    }

    #[test]
    fn ranges_are_checked() {
        let good = StormSpec { gap_ns: MAX_GAP_NS, jitter_ns: MAX_GAP_NS, count: 0, seed: 0 };
        assert_eq!(good.check(), Ok(()));
        assert_eq!(
            StormSpec { gap_ns: MAX_GAP_NS + 1, ..good }.check(),
            Err(StormSpecError::Gap(1_000_000_001))
        );
        assert_eq!(StormSpec { jitter_ns: u64::MAX, ..good }.check(), Err(StormSpecError::Jitter(u64::MAX)));
    }

    #[test]
    fn the_end_of_time_is_no_overflow() {
        let mut storm = Storm::new(StormSpec { gap_ns: 5, jitter_ns: 5, count: 0, seed: 0 });
        assert_eq!(storm.next_due(u64::MAX - 1), u64::MAX);
    }
}

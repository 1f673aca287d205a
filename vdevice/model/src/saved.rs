//! How the parts of a card that are not plain numbers are saved, and what is checked when they come back.

use core::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use squall_registers::FIFO_DEPTH;

use crate::fifo::Fifo;
use crate::storm::StormSpec;

/// Declares a module that saves a register as its bits, of which only `$known` come back.
macro_rules! register {
    ($module:ident, $register:ident, $known:expr) => {
        pub(crate) mod $module {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};
            use squall_registers::$register;

            pub(crate) fn serialize<S: Serializer>(
                register: &$register,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                register.bits().serialize(serializer)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$register, D::Error> {
                Ok($register::from_bits(u32::deserialize(deserializer)?) & $known)
            }
        }
    };
}

register!(control, Control, Control::IRQ_ENABLE);
register!(status, Status, Status::SAMPLE_READY | Status::OVERRUN);

/// A storm whose values are in range.
pub(crate) fn spec<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StormSpec, D::Error> {
    let spec = StormSpec::deserialize(deserializer)?;
    spec.check().map_err(D::Error::custom)?;
    Ok(spec)
}

impl Serialize for Fifo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Fifo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Samples)
    }
}

struct Samples;

impl<'de> Visitor<'de> for Samples {
    type Value = Fifo;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {FIFO_DEPTH} samples")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut samples: A) -> Result<Fifo, A::Error> {
        let mut fifo = Fifo::new();
        while let Some(sample) = samples.next_element()? {
            if !fifo.push(sample) {
                return Err(A::Error::invalid_length(FIFO_DEPTH + 1, &self));
            }
        }
        Ok(fifo)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::String;

    use crate::{Card, StormSpec};

    fn stormy() -> Card {
        let mut card = Card::new();
        let spec = StormSpec { gap_ns: 10, jitter_ns: 1000, count: 0, seed: 7 };
        let _ = card.write(4, 4, 1, 0, &mut |_| {}).unwrap();
        let _ = card.fire(3, &mut |_| {});
        let _ = card.start_storm(spec, &mut |_| {}).unwrap();
        let _ = card.write(8, 4, 1, 5, &mut |_| {}).unwrap();
        card
    }

    fn text(card: &Card) -> String {
        serde_json::to_string(card).unwrap()
    }

    #[test]
    fn a_restored_card_goes_on_as_the_first_does() {
        let mut first = stormy();
        let mut second: Card = serde_json::from_str(&text(&first)).unwrap();
        assert_eq!(second.statistics(), first.statistics());
        for _ in 0..50 {
            let due = [&mut first, &mut second].map(|card| {
                let due = card.restored(&mut |_| {}).deadline.unwrap();
                let _ = card.time_reached(due, &mut |_| {});
                let _ = card.write(8, 4, 1, due, &mut |_| {}).unwrap();
                (due, card.read(0xC, 4, &mut |_| {}).unwrap())
            });
            assert_eq!(due[0], due[1]);
        }
        assert_eq!(text(&first), text(&second));
    }

    #[test]
    fn what_no_card_can_be_is_refused() {
        let good = text(&stormy());
        let swapped = |from: &str, to: &str| {
            assert!(good.contains(from), "{good}");
            serde_json::from_str::<Card>(&good.replace(from, to)).map_err(|error| std::format!("{error}"))
        };
        let samples = std::format!("[{}1]", "1,".repeat(64));
        assert!(swapped("[1,2,3,4]", &samples).unwrap_err().contains("at most 64 samples"));
        assert!(swapped("\"gap_ns\":10", "\"gap_ns\":2000000000").unwrap_err().contains("gap_ns is"));
        assert!(swapped("\"sequence\"", "\"sequel\"").unwrap_err().contains("unknown field"));
        assert!(swapped("\"control\":1", "\"control\":4294967295").is_ok(), "unknown bits are dropped");
        assert!(serde_json::from_str::<Card>(&good[..good.len() / 2]).is_err());
    }
}

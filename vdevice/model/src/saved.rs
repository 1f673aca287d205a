//! How the parts of a card that are not plain numbers are saved, and what is checked when they come back.

use core::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use squall_registers::FIFO_DEPTH;

use crate::fifo::Fifo;
use crate::misbehaviour::{LateDisable, LateRegister, Spurious, check_places};
use crate::schedule::MAX_SCHEDULES;
use crate::storm::Running;

/// Declares a module that saves a register's value as its bits, of which only `$known` come back.
macro_rules! bits {
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

bits!(control, Control, Control::IRQ_ENABLE);
bits!(status, Status, Status::SAMPLE_READY | Status::OVERRUN);

/// A register as its offset.
pub(crate) mod register {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use squall_registers::Register;

    pub(crate) fn serialize<S: Serializer>(register: &Register, serializer: S) -> Result<S::Ok, S::Error> {
        register.offset().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Register, D::Error> {
        let offset = u16::deserialize(deserializer)?;
        Register::at(offset).ok_or_else(|| D::Error::custom("no register is there"))
    }
}

/// A storm whose schedules can be, and can have come to where they are.
pub(crate) fn storm<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<[Option<Running>; MAX_SCHEDULES], D::Error> {
    let storm = <[Option<Running>; MAX_SCHEDULES]>::deserialize(deserializer)?;
    for running in storm.iter().flatten() {
        running.schedule.check().map_err(D::Error::custom)?;
        if !running.is_sound() {
            return Err(D::Error::custom("a schedule has come to where it cannot"));
        }
    }
    Ok(storm)
}

/// Declares a function that reads what is then checked.
macro_rules! checked {
    ($name:ident, $what:ty) => {
        pub(crate) fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$what, D::Error> {
            let read = <$what>::deserialize(deserializer)?;
            read.check().map_err(D::Error::custom)?;
            Ok(read)
        }
    };
}

checked!(late_disable, LateDisable);
checked!(spurious, Spurious);
checked!(late_register, LateRegister);

/// Places of the FIFO that there can be.
pub(crate) fn places<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let places = Option::<u32>::deserialize(deserializer)?;
    places.map_or(Ok(()), check_places).map_err(D::Error::custom)?;
    Ok(places)
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

    use squall_registers::Register;

    use crate::{
        Card, Direction, LateDisable, LateRegister, Misbehaviour, Pace, Schedule, Spurious, Trigger,
    };

    /// A card on which everything is going on at once.
    fn stormy() -> Card {
        let mut card = Card::new();
        let schedule = |pace| Schedule { pace, jitter_ns: 500, burst: 1, burst_gap_ns: 0, count: 0, seed: 7 };
        let (register, direction) = (Register::Status, Direction::Write);
        let trigger = Trigger { register, direction, mask: 0, value: 0 };
        let storm = [
            schedule(Pace::Acknowledgement { gap_ns: 10, train: 2 }),
            schedule(Pace::Period { period_ns: 3000 }),
            schedule(Pace::Access { trigger, delay_ns: 20 }),
        ];
        let wrong = Misbehaviour {
            stuck_line: None,
            late_disable: Some(LateDisable { delay_ns: 50, samples: 1, read_flushes: false }),
            spurious: Some(Spurious { period_ns: 1700, width_ns: 5 }),
            fifo_places: Some(60),
            removed: false,
            late_register: Some(LateRegister { register: Register::Sequence, delay_ns: 100, reads: 1 }),
        };
        let _ = card.write(4, 4, 1, 0, &mut |_| {}).unwrap();
        let _ = card.fire(3, 0, &mut |_| {});
        let _ = card.start_storm(&storm, 0, &mut |_| {}).unwrap();
        let _ = card.misbehave(wrong, 1, &mut |_| {}).unwrap();
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
        assert_eq!(second.misbehaviour(), first.misbehaviour());
        for _ in 0..50 {
            let seen = [&mut first, &mut second].map(|card| {
                let due = card.restored(&mut |_| {}).deadline.unwrap();
                let _ = card.time_reached(due, &mut |_| {});
                let _ = card.write(4, 4, due % 2, due, &mut |_| {}).unwrap();
                let _ = card.write(8, 4, 1, due, &mut |_| {}).unwrap();
                (due, [0xC, 0x14].map(|at| card.read(at, 4, due, &mut |_| {}).unwrap().0))
            });
            assert_eq!(seen[0], seen[1]);
        }
        assert_eq!(text(&first), text(&second));
    }

    #[test]
    fn what_no_card_can_be_is_refused() {
        let good = text(&stormy());
        let swapped = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}: {good}");
            serde_json::from_str::<Card>(&good.replacen(from, to, 1)).map_err(|error| std::format!("{error}"))
        };
        let refused = |from: &str, to: &str| swapped(from, to).unwrap_err();
        let samples = std::format!("[{}1]", "1,".repeat(64));
        let fifo = std::format!("[{}]", [1, 2, 3, 4, 5, 6].map(|n| std::format!("{n}")).join(","));
        assert!(refused(&fifo, &samples).contains("at most 64 samples"));
        assert!(refused("\"gap_ns\":10", "\"gap_ns\":2000000000").contains("gap_ns is"));
        assert!(refused("\"burst\":1", "\"burst\":0").contains("burst is 0"));
        assert!(refused("\"train\":2", "\"train\":0").contains("train is 0"));
        assert!(refused("\"in_burst\":0", "\"in_burst\":1").contains("come to where it cannot"));
        assert!(refused("\"in_train\":1", "\"in_train\":2").contains("come to where it cannot"));
        assert!(
            refused("\"wait\":{\"Until\"", "\"wait\":\"Access\",\"x\":{\"Until\"").contains("unknown field")
        );
        assert!(refused("\"register\":8", "\"register\":9").contains("no register is there"));
        assert!(refused("\"width_ns\":5", "\"width_ns\":1700").contains("width_ns is 1700"));
        assert!(refused("\"fifo_places\":60", "\"fifo_places\":65").contains("fifo_places is 65"));
        assert!(refused("\"sequence\"", "\"sequel\"").contains("unknown field"));
        assert!(swapped("\"control\":1", "\"control\":4294967295").is_ok(), "unknown bits are dropped");
        assert!(serde_json::from_str::<Card>(&good[..good.len() / 2]).is_err());
    }
}

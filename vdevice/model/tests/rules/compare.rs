//! A card and the rules, side by side.

use squall_model::{Card, Effects, Event, Kind};

use crate::statement::{Rules, misbehaviour_can_be, storm_can_be};
use crate::step::Step;

/// How often the journal has told of something.
#[derive(Default)]
struct Told {
    kinds: [u64; 32],
    line: bool,
}

impl Told {
    fn hear(&mut self, event: Event) {
        self.kinds[event.kind as usize] += 1;
        match event.kind {
            Kind::Assert => self.line = true,
            Kind::Deassert => self.line = false,
            _ => {}
        }
        assert_eq!(event.level, self.line, "every event has the line's level: {event:?}");
    }
}

/// Does every step to both, and compares everything that can be seen of them.
///
/// # Panics
/// Where they differ.
pub(crate) fn compare(steps: impl IntoIterator<Item = Step>) {
    let (mut card, mut rules, mut told, mut now) = (Card::new(), Rules::default(), Told::default(), 0);
    for (number, step) in steps.into_iter().enumerate() {
        if let Step::Unseen(passed) = step {
            now += passed;
            continue;
        }
        let before = rules.statistics();
        let effects = do_both(&mut card, &mut rules, &mut told, &mut now, &step);
        let after = rules.statistics();
        assert_eq!(card.statistics(), after, "{step:?}");
        if let Some(Effects { line, deadline }) = effects {
            assert_eq!(deadline, rules.deadline(), "{step:?}");
            let moved = line.map(|change| (change.level, change.rose));
            let rose = after.asserted > before.asserted;
            let expected = (after.line != before.line || rose).then_some((after.line, rose));
            // A line that is high falls before it rises; one that is low may fall and rise and fall.
            assert_eq!(moved, expected, "{step:?}");
        }
        assert_eq!(card.storm().collect::<Vec<_>>(), rules.storm(), "{step:?}");
        assert_eq!(card.misbehaviour(), rules.misbehaviour(), "{step:?}");
        told.agrees(&card);
        look(&card, &rules, (number as u64 % 8) * 4, now);
    }
}

impl Told {
    /// What was told is what was counted.
    fn agrees(&self, card: &Card) {
        let seen = card.statistics();
        let counted = [
            (Kind::Read, seen.reads),
            (Kind::Write, seen.writes),
            (Kind::Fire, seen.fired),
            (Kind::Assert, seen.asserted),
            (Kind::Serviced, seen.serviced),
            (Kind::Suppressed, seen.suppressed),
            (Kind::Coalesced, seen.coalesced),
            (Kind::UnloadEnter, seen.unload.entered),
            (Kind::UnloadLeave, seen.unload.left),
            (Kind::Posted, seen.misbehaviour.late_disables),
            (Kind::Spurious, seen.misbehaviour.spurious),
            (Kind::Stale, seen.misbehaviour.stale_reads),
            (Kind::Vanished, seen.misbehaviour.vanished),
        ];
        for (kind, count) in counted {
            assert_eq!(self.kinds[kind as usize], count, "{kind:?}");
        }
        assert_eq!(self.line, seen.line);
        assert_eq!(
            self.kinds[Kind::Enabled as usize] - self.kinds[Kind::Silenced as usize],
            u64::from(seen.irq_enabled)
        );
    }
}

/// Does a step to both. `None` where the card refuses it, as it must.
fn do_both(
    card: &mut Card,
    rules: &mut Rules,
    told: &mut Told,
    now: &mut u64,
    step: &Step,
) -> Option<Effects> {
    let journal = &mut |event| told.hear(event);
    let effects = match step {
        Step::Read { offset, size } => {
            let read = card.read(*offset, *size, *now, journal).ok();
            assert_eq!(read.map(|(value, _)| value), rules.read(*offset, *size, *now), "{step:?}");
            read?.1
        }
        Step::Write { offset, size, value } => {
            let effects = card.write(*offset, *size, *value, *now, journal).ok();
            assert_eq!(effects.is_some(), rules.write(*offset, *size, *value, *now), "{step:?}");
            effects?
        }
        Step::Fire(samples) => {
            rules.fire(*samples, *now);
            card.fire(*samples, *now, journal)
        }
        Step::Storm(storm) => {
            let effects = card.start_storm(storm, *now, journal).ok();
            assert_eq!(effects.is_some(), storm_can_be(storm), "{step:?}");
            let effects = effects?;
            rules.start_storm(storm, *now);
            effects
        }
        Step::Calm => {
            rules.stop_storm(*now);
            card.stop_storm(*now, journal)
        }
        Step::Misbehave(wrong) => {
            let effects = card.misbehave(*wrong, *now, journal).ok();
            assert_eq!(effects.is_some(), misbehaviour_can_be(wrong), "{step:?}");
            let effects = effects?;
            rules.misbehave(*wrong, *now);
            effects
        }
        Step::Time(passed) => {
            *now += passed;
            rules.reach(*now);
            card.time_reached(*now, journal)
        }
        Step::Deadline => {
            *now = rules.deadline().unwrap_or(0).max(*now);
            rules.reach(*now);
            card.time_reached(*now, journal)
        }
        Step::Reset => {
            rules.reset(*now);
            card.reset(*now, journal)
        }
        Step::Enter(fire) => {
            rules.enter(*fire, *now);
            card.enter_unload(0x1000, *fire, *now, journal)
        }
        Step::Leave => {
            rules.leave(*now);
            card.leave_unload(0x2000, *now, journal)
        }
        Step::Reload => {
            let saved = serde_json::to_string(card).expect("a card can be saved");
            *card = serde_json::from_str(&saved).expect("a card that was saved can be restored");
            card.restored(journal)
        }
        Step::Unseen(_) => return None,
    };
    rules.note(*now);
    Some(effects)
}

/// What a read would show of a register, without changing either.
fn look(card: &Card, rules: &Rules, offset: u64, now: u64) {
    let (mut card, mut rules) = (card.clone(), rules.clone());
    let shown = card.read(offset, 4, now, &mut |_| {}).ok().map(|(value, _)| value);
    assert_eq!(shown, rules.read(offset, 4, now), "register {offset:#x}");
}

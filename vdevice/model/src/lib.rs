//! What Squall's sampling card does.
//!
//! A card is a few registers, a FIFO and one interrupt line; and, on the bench's side, which no driver can
//! see, a button that takes samples ([`Card::fire`]), a machine that presses it ([`Schedule`]), a screwdriver
//! ([`Misbehaviour`]) and counters. This crate is all of that and nothing else: no virtual machine, no clock, no
//! thread, no allocation. The emulator that owns a [`Card`] calls it and carries out what it answers:
//!
//! | the emulator calls | when |
//! |---|---|
//! | [`Card::read`], [`Card::write`] | a processor accesses the register window |
//! | [`Card::fire`], [`Card::start_storm`], [`Card::stop_storm`], [`Card::misbehave`] | the bench asks for it |
//! | [`Card::time_reached`] | the deadline of the last [`Effects`] has come |
//! | [`Card::reset`] | the machine is reset |
//! | [`Card::enter_unload`], [`Card::leave_unload`] | a processor reaches the marked instructions |
//!
//! Each call returns [`Effects`] and tells what happened, in order, to the journal that it is given, as
//! [`Event`]s. Time is virtual nanoseconds, and is only ever an argument. A call begins with what has become
//! due by then, so that it makes no difference whether the emulator's timer is a little late.
//!
//! # Pacing
//!
//! A storm faster than the guest can serve is no storm: interrupts on a line that is already high coalesce
//! into one. So a storm can wait ([`Pace::Acknowledgement`]): it takes a sample, waits until the guest has
//! acknowledged it, waits a gap and a seeded jitter more, and takes the next. A sample that was taken while
//! the guest had interrupts disabled will be acknowledged by nobody; the storm then rests until they are
//! enabled again. Or it goes by the guest's clock ([`Pace::Period`]), or strikes a while after the guest has
//! touched a register ([`Pace::Access`]). Up to [`MAX_SCHEDULES`] run side by side.
//!
//! # Misbehaving
//!
//! Hardware fails in ways that no register shows. [`Misbehaviour`] lists those that can be switched on: each
//! changes one rule of the map and nothing else, is counted and told, and ends when it is switched off.
//!
//! # Saving
//!
//! A [`Card`] is its own saved state: what is serialised and read back goes on as the first would have, down to
//! the next number of its random generators. What is read back is checked, so that no card can be made that
//! breaks its own rules.
//!
//! # What is not modelled
//!
//! DMA, a sample rate of the card's own, and, where it does not misbehave, any latency: a register access
//! takes no time, and the line follows at once.
#![no_std]

mod access;
mod card;
mod counters;
mod effects;
mod event;
mod faults;
mod fifo;
mod misbehaviour;
mod random;
mod range;
mod saved;
mod schedule;
mod storm;

pub use access::{Access, Refused};
pub use card::Card;
pub use counters::{Misdeeds, Statistics, UnloadWindow};
pub use effects::{Effects, LineChange};
pub use event::{Event, Kind, Origin};
pub use misbehaviour::{LateDisable, LateRegister, Misbehaviour, MisbehaviourError, Spurious};
pub use range::{MAX_BURST, MAX_DELAY_NS, MIN_PERIOD_NS, OutOfRange};
pub use schedule::{Direction, MAX_SCHEDULES, Pace, Schedule, ScheduleError, StormError, Trigger};

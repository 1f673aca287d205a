//! The card against a second statement of its rules: random sequences of everything that can be done to a card
//! must find no difference.
//!
//! A sequence is read from random bytes ([`step`]), so that the fuzzer, which makes its bytes itself, shares
//! all of this (`vdevice/model/fuzz`). One that finds a difference is cut down to the steps that matter.

// A test says what it expects; what else can happen ends it. clippy knows that of functions marked as tests,
// not of their helpers.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod compare;
mod statement;
mod step;

use std::panic::{AssertUnwindSafe, catch_unwind};

use compare::compare;
use step::{Dice, Step};

/// Sequences of each test below.
const SEQUENCES: u64 = 25_000;
/// The most bytes of a sequence. A step takes between one and some dozens.
const BYTES: usize = 400;

/// Marsaglia's xorshift, which is all that is wanted here.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn differs(steps: &[Step]) -> bool {
    catch_unwind(AssertUnwindSafe(|| compare(steps.iter().cloned()))).is_err()
}

/// Leaves out what is not needed for a difference: halves, quarters, and at last single steps.
fn cut_down(mut steps: Vec<Step>) -> Vec<Step> {
    let mut len = steps.len() / 2;
    while len > 0 {
        let mut at = 0;
        while at < steps.len() {
            let mut shorter = steps.clone();
            shorter.drain(at..steps.len().min(at + len));
            if differs(&shorter) {
                steps = shorter;
            } else {
                at += len;
            }
        }
        len /= 2;
    }
    steps
}

fn the_card_keeps_the_rules(seed: u64) {
    let mut state = seed;
    for sequence in 0..SEQUENCES {
        let len = random(&mut state) as usize % BYTES;
        let bytes: Vec<u8> = (0..len).map(|_| (random(&mut state) >> 32) as u8).collect();
        let steps: Vec<Step> = Dice::new(&bytes).collect();
        if differs(&steps) {
            let steps = cut_down(steps);
            println!("sequence {sequence} of seed {seed:#x} differs: {steps:#?}");
            compare(steps);
        }
    }
}

#[test]
fn the_card_keeps_the_rules_in_the_first_25_000_sequences() {
    the_card_keeps_the_rules(0x5351_0001);
}

#[test]
fn the_card_keeps_the_rules_in_the_second_25_000_sequences() {
    the_card_keeps_the_rules(0x5351_0002);
}

#[test]
fn the_card_keeps_the_rules_in_the_third_25_000_sequences() {
    the_card_keeps_the_rules(0x5351_0003);
}

#[test]
fn the_card_keeps_the_rules_in_the_fourth_25_000_sequences() {
    the_card_keeps_the_rules(0x5351_0004);
}

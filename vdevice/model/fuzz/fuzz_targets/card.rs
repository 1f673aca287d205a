//! Any bytes are a sequence of register accesses of any size and offset, and of all that a bench can ask for. The
//! card must not panic, must end every call, and must keep the rules that the property tests state.
#![no_main]
// A difference is a panic: that is what the fuzzer looks for.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

#[path = "../../tests/rules/compare.rs"]
mod compare;
#[path = "../../tests/rules/statement.rs"]
mod statement;
#[path = "../../tests/rules/step.rs"]
mod step;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| compare::compare(step::Dice::new(bytes)));

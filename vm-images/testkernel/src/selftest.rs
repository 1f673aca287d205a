//! The kernel's own tests, run on the machine itself.
//!
//! With the word `selftest` on the kernel's command line the kernel runs every [`kernel_test!`] instead of
//! the agent, says `selftest: N passed, M failed` on the console, and ends QEMU through isa-debug-exit where
//! that is present (status 33: all passed, 35: not). A test stands beside the code that it tests, and returns
//! [`Failed`] through [`check!`].
//!
//! What must *end* the system cannot be a test of that kind. The words of [`provoke`] make it end, each in
//! its own way; the harness's tests compare the crash record.

use core::fmt;

use crate::arch::boot::BootInfo;
use crate::arch::port;
use crate::console::println;
use crate::hal::clock;
use crate::ke::irql::{self, Irql};

pub mod cards;
pub mod provoke;
pub mod verifier_stops;
pub mod victim;

const DEBUG_EXIT_PORT: u16 = 0xF4;
/// QEMU ends with twice the value plus one.
const ALL_PASSED: u8 = 0x10;
const SOME_FAILED: u8 = 0x11;

/// What was not as it should be.
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    /// The condition.
    pub condition: &'static str,
    /// Its source file.
    pub file: &'static str,
    /// Its line.
    pub line: u32,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is false ({}:{})", self.condition, self.file, self.line)
    }
}

/// How a test ends.
pub type Outcome = Result<(), Failed>;

/// One test, as [`kernel_test!`] leaves it in the section that the linker script gathers.
#[derive(Debug)]
#[repr(C)]
pub struct Test {
    /// The module that it stands in.
    pub module: &'static str,
    /// The function's name.
    pub name: &'static str,
    /// The test.
    pub run: fn() -> Outcome,
}

/// Declares tests: functions without arguments that return an [`Outcome`].
macro_rules! kernel_test {
    ($($(#[$meta:meta])* fn $name:ident() $body:block)*) => { $(
        $(#[$meta])*
        fn $name() -> $crate::selftest::Outcome {
            $body
            #[allow(unreachable_code, reason = "a test may end in a return")]
            Ok(())
        }

        const _: () = {
            #[used]
            #[unsafe(link_section = ".squall.selftests")]
            static TEST: $crate::selftest::Test =
                $crate::selftest::Test { module: module_path!(), name: stringify!($name), run: $name };
        };
    )* };
}
pub(crate) use kernel_test;

/// Ends the test where the condition is false.
macro_rules! check {
    ($condition:expr) => {
        if !$condition {
            return Err($crate::selftest::Failed {
                condition: stringify!($condition),
                file: file!(),
                line: line!(),
            });
        }
    };
}
pub(crate) use check;

unsafe extern "C" {
    #[link_name = "__squall_selftests_start"]
    static TESTS_START: u8;
    #[link_name = "__squall_selftests_end"]
    static TESTS_END: u8;
}

fn tests() -> &'static [Test] {
    let start = (&raw const TESTS_START).cast::<Test>();
    let end = (&raw const TESTS_END).cast::<Test>();
    let count = (end.addr() - start.addr()) / size_of::<Test>();
    // SAFETY: the linker script puts nothing but the statics of `kernel_test!` between the two symbols.
    unsafe { core::slice::from_raw_parts(start, count) }
}

/// Whether the command line asks for something of this module's rather than for the agent.
pub fn is_wanted(boot: &BootInfo) -> bool {
    boot.has_word("selftest") || provoke::wanted(boot).is_some()
}

/// Runs every test, and ends the machine. In a thread of its own.
pub fn run() {
    let (mut passed, mut failed) = (0, 0);
    for test in tests() {
        let start = clock::now_ns();
        let mut outcome = (test.run)();
        if irql::current() != Irql::PASSIVE {
            irql::set(Irql::PASSIVE);
            outcome =
                outcome.and(Err(Failed { condition: "IRQL == PASSIVE_LEVEL", file: test.module, line: 0 }));
        }
        let module = test.module.strip_prefix("testkernel::").unwrap_or(test.module);
        match outcome {
            Ok(()) => {
                passed += 1;
                println!("test {module}::{} ... ok ({} us)", test.name, (clock::now_ns() - start) / 1000);
            }
            Err(why) => {
                failed += 1;
                println!("test {module}::{} ... FAILED: {why}", test.name);
            }
        }
    }
    println!("selftest: {passed} passed, {failed} failed");
    port::write_u8(DEBUG_EXIT_PORT, if failed == 0 { ALL_PASSED } else { SOME_FAILED });
}

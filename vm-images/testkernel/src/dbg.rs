//! `DbgPrint`: what drivers say, onto the console.
//!
//! A variadic call on x64 passes its first four words in registers and the rest on the stack, behind room for those
//! four. Storing the registers into that room makes one array of all of them, and that is all the assembly does.
//!
//! Output is a line at most 512 bytes long, as on Windows, and no more than a driver that prints in every interrupt
//! may say without drowning the run: above the limit lines are counted instead of shown.

pub mod assertion;
pub mod callback;
mod filter;

use core::arch::naked_asm;

use squall_testkernel_pure::printf::{self, Line, Source};

use crate::console;
use crate::hal::clock;
use crate::ke::lock::InterruptLock;
use crate::ldr::export::{export, export_data};
use crate::mm::paging;
use crate::nt::{BOOLEAN, FALSE, NTSTATUS, STATUS_DEBUGGER_INACTIVE, STATUS_SUCCESS, TRUE};

/// Bytes that may be printed at once.
const BURST: u64 = 128 << 10;
/// Bytes that are allowed again each millisecond.
const BYTES_PER_MILLISECOND: u64 = 64;

/// How much may still be printed, and how many lines were not.
struct Allowance {
    bytes: u64,
    millisecond: u64,
    withheld: u64,
}

static ALLOWANCE: InterruptLock<Allowance> =
    InterruptLock::new(Allowance { bytes: BURST, millisecond: 0, withheld: 0 });

impl Allowance {
    /// Whether a line of `length` may go out, and how many were withheld before it.
    fn take(&mut self, length: u64, millisecond: u64) -> Option<u64> {
        let passed = millisecond.saturating_sub(self.millisecond);
        self.millisecond = millisecond;
        self.bytes = BURST.min(self.bytes.saturating_add(passed.saturating_mul(BYTES_PER_MILLISECOND)));
        if length > self.bytes {
            self.withheld += 1;
            return None;
        }
        self.bytes -= length;
        Some(core::mem::take(&mut self.withheld))
    }
}

/// The words of a variadic call.
pub struct Words {
    next: *const u64,
}

impl Words {
    /// From the first of them on.
    pub const fn at(next: *const u64) -> Self {
        Self { next }
    }
}

impl Source for Words {
    fn word(&mut self) -> u64 {
        let word = self.next;
        self.next = self.next.wrapping_add(1);
        if !paging::is_present(word.addr() as u64) {
            return 0;
        }
        // SAFETY: the page is there; a format that asks for more arguments than there are reads other stack words.
        unsafe { word.read_volatile() }
    }

    fn byte(&self, address: u64) -> Option<u8> {
        // A driver's image or data may go away under us only if it prints while it is unloaded.
        paging::is_present(address).then(|| {
            let pointer = core::ptr::with_exposed_provenance::<u8>(address as usize);
            // SAFETY: the page is there.
            unsafe { pointer.read_volatile() }
        })
    }
}

/// Formats and prints what passes the filter; `words` begins behind the format's own argument.
unsafe extern "win64" fn print(component: u32, level: u32, format: u64, words: *const u64) -> NTSTATUS {
    if filter::passes(component, level) {
        say(&printf::format(format, &mut Words { next: words }), component, level);
    }
    STATUS_SUCCESS
}

fn say(line: &Line, component: u32, level: u32) {
    let text = line.as_str();
    callback::tell(text, component, level);
    let allowed = ALLOWANCE.lock().take(text.len() as u64, clock::now_ns() / 1_000_000);
    if let Some(withheld) = allowed {
        if withheld > 0 {
            console::println!(
                "[{withheld} lines of DbgPrint withheld: more than {BYTES_PER_MILLISECOND} KB/s]"
            );
        }
        console::print(format_args!("{text}"));
    }
}

export! {
    /// *DbgPrint function (wdm.h)*: a message of the component DEFAULT at the level of information; strings are read only where
    /// their memory is present.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn DbgPrint(format: *const u8) -> NTSTATUS {
        naked_asm!(
            "mov [rsp + 16], rdx",
            "mov [rsp + 24], r8",
            "mov [rsp + 32], r9",
            "mov r8, rcx",
            "lea r9, [rsp + 16]",
            "mov ecx, {component}",
            "mov edx, {level}",
            "jmp {print}",
            component = const filter::DEFAULT,
            level = const filter::INFORMATION,
            print = sym print,
        )
    }

    /// *DbgPrintReturnControlC*: DbgPrint for a debugger that may interrupt it; there is none.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn DbgPrintReturnControlC(format: *const u8) -> NTSTATUS {
        naked_asm!("jmp {}", sym DbgPrint)
    }

    /// *DbgPrintEx function (wdm.h)*: STATUS_SUCCESS also where the component's mask keeps the message back.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn DbgPrintEx(component: u32, level: u32, format: *const u8) -> NTSTATUS {
        naked_asm!(
            "mov [rsp + 32], r9",
            "lea r9, [rsp + 32]",
            "jmp {print}",
            print = sym print,
        )
    }

    /// *vDbgPrintEx function (wdm.h)*: the arguments as a list.
    pub unsafe extern "win64" fn vDbgPrintEx(
        component: u32,
        level: u32,
        format: *const u8,
        words: *const u64,
    ) -> NTSTATUS {
        // SAFETY: the caller gives the format's arguments.
        unsafe { print(component, level, format.addr() as u64, words) }
    }

    /// *vDbgPrintExWithPrefix function (wdm.h)*: the prefix, as it stands, and what the format says are one message of at most 512
    /// bytes.
    pub unsafe extern "win64" fn vDbgPrintExWithPrefix(
        prefix: *const u8,
        component: u32,
        level: u32,
        format: *const u8,
        words: *const u64,
    ) -> NTSTATUS {
        if filter::passes(component, level) {
            let (prefix, format) = (prefix.addr() as u64, format.addr() as u64);
            say(&printf::format_behind(prefix, format, &mut Words { next: words }), component, level);
        }
        STATUS_SUCCESS
    }

    /// *DbgPrompt function (ntddk.h)*: the prompt is shown, and nobody is there to answer: 0 characters.
    pub unsafe extern "win64" fn DbgPrompt(prompt: *const u8, _response: *mut u8, _length: u32) -> u32 {
        let nothing = c"".as_ptr().addr() as u64;
        let line = printf::format_behind(prompt.addr() as u64, nothing, &mut Words { next: core::ptr::null() });
        say(&line, filter::DEFAULT, filter::INFORMATION);
        0
    }

    /// *DbgBreakPoint function (wdm.h)*: an exception, STATUS_BREAKPOINT, as no debugger is there to stop in.
    #[unsafe(naked)]
    #[unsafe(link_section = ".text.squall_leaf")]
    pub unsafe extern "win64" fn DbgBreakPoint() {
        naked_asm!("int3", "ret")
    }

    /// *DbgBreakPointWithStatus function (wdm.h)*: the same; the status is for the debugger.
    #[unsafe(naked)]
    #[unsafe(link_section = ".text.squall_leaf")]
    pub unsafe extern "win64" fn DbgBreakPointWithStatus(status: u32) {
        naked_asm!("int3", "ret")
    }

    /// *KdRefreshDebuggerNotPresent function (ntddk.h)*: TRUE.
    pub unsafe extern "win64" fn KdRefreshDebuggerNotPresent() -> BOOLEAN {
        TRUE
    }

    /// *KdDisableDebugger function (ntddk.h)*: STATUS_DEBUGGER_INACTIVE, as there is none.
    pub unsafe extern "win64" fn KdDisableDebugger() -> NTSTATUS {
        STATUS_DEBUGGER_INACTIVE
    }

    /// *KdChangeOption function (wdm.h)*: STATUS_DEBUGGER_INACTIVE, as there is none; nothing is put out.
    pub unsafe extern "win64" fn KdChangeOption(
        _option: u32,
        _in_bytes: u32,
        _in_buffer: *const core::ffi::c_void,
        _out_bytes: u32,
        _out_buffer: *mut core::ffi::c_void,
        needed: *mut u32,
    ) -> NTSTATUS {
        if !needed.is_null() {
            // SAFETY: the caller gives storage, or null.
            unsafe { needed.write(0) };
        }
        STATUS_DEBUGGER_INACTIVE
    }

    /// *KdEnableDebugger function (ntddk.h)*: STATUS_DEBUGGER_INACTIVE, as there is none.
    pub unsafe extern "win64" fn KdEnableDebugger() -> NTSTATUS {
        STATUS_DEBUGGER_INACTIVE
    }
}

/// `KdDebuggerNotPresent`, `KdDebuggerEnabled`.
static DEBUGGER_NOT_PRESENT: BOOLEAN = TRUE;
static DEBUGGER_ENABLED: BOOLEAN = FALSE;

export_data! {
    KdDebuggerNotPresent => DEBUGGER_NOT_PRESENT;
    KdDebuggerEnabled => DEBUGGER_ENABLED;
}

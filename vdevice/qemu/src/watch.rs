//! Interrupts placed at a chosen instruction of the guest.
//!
//! QEMU's translator asks plugins about every instruction that it translates. Where one is watched, we have
//! it call back before the instruction is executed. But a callback is no place to interrupt from: the
//! processor is in the middle of translated code, without the big lock, and notices an interrupt only some
//! instructions later. So the callback leaves:
//!
//! 1. it queues work for the processor's own thread ([`arrived`]);
//! 2. it has the processor leave its loop, as if the instruction had not been reached, by a `longjmp` of
//!    QEMU's;
//! 3. before it comes back, the processor does its queued work, with the big lock: the card takes its sample,
//!    the line rises;
//! 4. the processor takes the interrupt where it stands: at the boundary before the watched instruction,
//!    exactly;
//! 5. after the interrupt it executes the instruction again. That second callback is let pass.
//!
//! Step 4 has a gap. A processor looks for pending interrupts one at a time; and when another thread has
//! moved the 8259's output just then, what it finds first is a request to look at its local APIC. Having done
//! that, it goes on with the instruction, and takes the interrupt a few hundred later. This happened to one
//! interrupt in some thousands. So as long as the line is still high at the second callback, the processor is
//! made to look again.
//!
//! Where another processor takes the interrupt, the same look has another use: it holds this one at the watched
//! instruction until the other has acknowledged. Without that, the two race, and the driver may silence the
//! card before the other processor's ISR has begun. A hold ends after [`LOOKS`] looks at the latest, so that a
//! masked interrupt does not hold a processor for ever. The processor sleeps between looks, not during one
//! long one, because it must keep taking part when another processor needs all of them to stand still.
//!
//! The `longjmp` must not cross a frame of Rust's. What QEMU calls is therefore a few lines of assembly,
//! which ask [`at`] and, when it has returned, leave by themselves.
//!
//! A callback is not a retired instruction. Should the watched instruction itself fault and be retried, it is
//! reached twice.
//!
//! # Watching something else
//!
//! Instructions are asked about when they are translated, once. When the watch changes, everything translated
//! so far is thrown away, by resetting the plugin in a processor's thread, where QEMU can wait until no
//! processor runs translated code. [`set`] returns when that has happened.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;

use crate::abi::{CALLBACK_RW_REGS, CpuState, PluginTb};
use crate::description::Watch;
use crate::device::Device;
use crate::symbols::{find, qemu};
use crate::{processor, registry};

/// Why nothing can be watched.
#[derive(Debug, Error)]
pub(crate) enum WatchError {
    #[error("instructions can only be watched with -accel tcg")]
    NotTcg,
    #[error("the machine has no processor")]
    NoProcessor,
}

/// How often a processor looks whether the line has fallen before it goes on all the same. With [`PAUSE`], this is a
/// twentieth of a second of the host's time: a busy host may well take that long to run the other processor.
const LOOKS: u16 = 1_000;

/// The looks that need no pause: these are for this processor's own interrupt.
const QUICK_LOOKS: u16 = 4;

/// Between two looks after those.
const PAUSE: Duration = Duration::from_micros(50);

/// An instruction that is watched.
struct Point {
    address: u64,
    /// A processor was held up here and will come again; and how often it may still be made to look for an
    /// interrupt.
    held: Option<u16>,
}

static POINTS: Mutex<Vec<Point>> = Mutex::new(Vec::new());

/// What QEMU calls this plugin.
static PLUGIN_ID: AtomicU64 = AtomicU64::new(0);

/// Whether QEMU's plugin callbacks get the block first and a pointer of ours second, as from interface 7 on;
/// before, the plugin's number came first and the block second.
static BLOCK_COMES_FIRST: AtomicBool = AtomicBool::new(false);

/// `cpu_loop_exit_restore`, for the trampoline.
static LEAVE_LOOP: AtomicUsize = AtomicUsize::new(0);

/// Remembers what changing the watch will need.
pub(crate) fn prepare(plugin_id: u64, block_comes_first: bool) {
    PLUGIN_ID.store(plugin_id, Ordering::Relaxed);
    BLOCK_COMES_FIRST.store(block_comes_first, Ordering::Relaxed);
    LEAVE_LOOP.store(qemu().cpu_loop_exit_restore as usize, Ordering::Relaxed);
}

/// Has `device` watch something else, or nothing. The big lock is held; it is let go while the processors are
/// waited for.
pub(crate) fn set(device: &Device, watch: Option<Watch>) -> Result<(), WatchError> {
    if watch.is_some() && !is_tcg() {
        return Err(WatchError::NotTcg);
    }
    let cpu = processor::at(0);
    if cpu.is_null() {
        return Err(WatchError::NoProcessor);
    }
    device.set_watch(watch);
    if update_points() {
        // SAFETY: a processor that exists, whose thread does the work, whether the machine runs or is
        // stopped.
        unsafe { (qemu().run_on_cpu)(cpu, begin_reset, 0) };
        // The reset is more work for the same thread, and work is done in order.
        // SAFETY: as above.
        unsafe { (qemu().run_on_cpu)(cpu, nothing, 0) };
    }
    Ok(())
}

/// The machine is reset: whoever was held up somewhere does not come again.
pub(crate) fn release() {
    for point in points().iter_mut() {
        point.held = None;
    }
}

fn points() -> MutexGuard<'static, Vec<Point>> {
    POINTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Collects what the devices watch; `true` if instructions are to be translated anew.
fn update_points() -> bool {
    let watches = registry::all().into_iter().filter_map(|device| device.watch());
    let mut wanted: Vec<u64> =
        watches.flat_map(|watch| [Some(watch.enter.0), watch.leave.map(|leave| leave.0)]).flatten().collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut points = points();
    let changed = !points.iter().map(|point| point.address).eq(wanted.iter().copied());
    *points = wanted.into_iter().map(|address| Point { address, held: None }).collect();
    changed
}

/// `tcg_enabled()`.
fn is_tcg() -> bool {
    let allowed = find(c"tcg_allowed").cast_const().cast::<u8>();
    // SAFETY: checked to exist when the library was loaded; a C bool, set before any device is made.
    !allowed.is_null() && unsafe { allowed.read() } != 0
}

/// In a processor's thread: asks QEMU to forget this plugin's callbacks and all translated code.
unsafe extern "C" fn begin_reset(_cpu: *mut CpuState, _data: u64) {
    let id = PLUGIN_ID.load(Ordering::Relaxed);
    let done: extern "C" fn() = after_reset;
    // SAFETY: our own number; the callback ignores what it is given, which differs between plugin interfaces.
    // The third argument is that of interface 7; before, nothing looked at it.
    unsafe { (qemu().qemu_plugin_reset)(id, done as *const c_void, null_mut()) };
}

unsafe extern "C" fn nothing(_cpu: *mut CpuState, _data: u64) {}

/// No processor runs translated code, and there is none: says what to ask for when there is again.
extern "C" fn after_reset() {
    if points().is_empty() {
        return;
    }
    let id = PLUGIN_ID.load(Ordering::Relaxed);
    let callback = if BLOCK_COMES_FIRST.load(Ordering::Relaxed) {
        let callback: unsafe extern "C" fn(*mut PluginTb, *mut c_void) = translated;
        callback as *const c_void
    } else {
        let callback: unsafe extern "C" fn(u64, *mut PluginTb) = translated_for;
        callback as *const c_void
    };
    // SAFETY: our own number and a callback of the interface that this QEMU has. As for the third argument,
    // see above.
    unsafe { (qemu().qemu_plugin_register_vcpu_tb_trans_cb)(id, callback, null_mut()) };
}

unsafe extern "C" fn translated_for(_id: u64, block: *mut PluginTb) {
    // SAFETY: QEMU's own argument.
    unsafe { translated(block, null_mut()) };
}

/// A block is being translated: has the watched instructions in it call back.
unsafe extern "C" fn translated(block: *mut PluginTb, _userdata: *mut c_void) {
    let points = points();
    // SAFETY: the block that QEMU is translating.
    let count = unsafe { (qemu().qemu_plugin_tb_n_insns)(block) };
    for index in 0..count {
        // SAFETY: the block that QEMU is translating has so many instructions.
        let instruction = unsafe { (qemu().qemu_plugin_tb_get_insn)(block, index) };
        // SAFETY: one of its instructions.
        let address = unsafe { (qemu().qemu_plugin_insn_vaddr)(instruction) };
        if points.iter().any(|point| point.address == address) {
            let register = qemu().qemu_plugin_register_vcpu_insn_exec_cb;
            // SAFETY: one of its instructions. The trampoline is called with a processor's index and the
            // address, and may leave the loop, since with these flags the guest's registers are in memory by
            // then.
            unsafe { register(instruction, squall_watch_trampoline, CALLBACK_RW_REGS, address) };
        }
    }
}

unsafe extern "C" {
    fn squall_watch_trampoline();
}

// Called from translated code with a processor's index and an address. The return address into the translated
// block is what QEMU needs to know which instruction it was, so it is kept in rbx; pushing that also aligns
// the stack for the calls.
std::arch::global_asm!(
    ".pushsection .text.squall_watch_trampoline,\"ax\",@progbits",
    ".globl squall_watch_trampoline",
    ".hidden squall_watch_trampoline",
    ".type squall_watch_trampoline,@function",
    "squall_watch_trampoline:",
    ".cfi_startproc",
    "push rbx",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset rbx, 0",
    "mov rbx, [rsp + 8]",
    "call {at}",
    "test rax, rax",
    "jz 2f",
    "mov rdi, rax",
    "mov rsi, rbx",
    "call [rip + {leave_loop}]",
    "ud2",
    "2:",
    "pop rbx",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore rbx",
    "ret",
    ".cfi_endproc",
    ".size squall_watch_trampoline, . - squall_watch_trampoline",
    ".popsection",
    at = sym at,
    leave_loop = sym LEAVE_LOOP,
);

/// A processor is about to execute a watched instruction. Returns the processor if it is to leave its loop,
/// else null.
///
/// There is no big lock here, and no asking for the time.
extern "C" fn at(index: u32, address: u64) -> *mut CpuState {
    let devices = registry::all();
    let cpu = processor::at(index as usize);
    let mut points = points();
    let Some(point) = points.iter_mut().find(|point| point.address == address) else { return null_mut() };
    match point.held {
        None if devices.iter().any(|device| device.awaits(address)) && !cpu.is_null() => {
            point.held = Some(LOOKS);
            drop(points);
            // SAFETY: the processor that is calling, which does the work in this thread once it has left its
            // loop.
            unsafe { (qemu().async_run_on_cpu)(cpu, arrived, address) };
            cpu
        }
        None => null_mut(),
        Some(looks) if looks > 0 && devices.iter().any(|device| device.line_is_high()) => {
            point.held = Some(looks - 1);
            drop(points);
            if looks <= LOOKS - QUICK_LOOKS {
                std::thread::sleep(PAUSE);
            }
            cpu
        }
        Some(_) => {
            point.held = None;
            null_mut()
        }
    }
}

/// The processor has left its loop before the instruction at `address`. The big lock is held.
unsafe extern "C" fn arrived(_cpu: *mut CpuState, address: u64) {
    for device in registry::all() {
        device.reached(address);
    }
}

//! Ends of the system, on demand: one word of the command line each.
//!
//! | word | what happens | stop code |
//! |---|---|---|
//! | `provoke-unloaded-isr` | an interrupt whose ISR's image is gone | 0xD1, access 8 |
//! | `provoke-unloaded-thread` | a thread goes on in an image that is gone | 0xCE |
//! | `provoke-unloaded-timer` | the kernel's timer queue runs through an image that is gone | 0xD4 |
//! | `provoke-null-at-dispatch` | a driver reads a null pointer in a DPC | 0xD1, access 0 |
//! | `provoke-null-at-passive` | a driver writes through a null pointer | 0x7E |
//! | `provoke-read-only` | a driver writes to its own code | 0xBE |
//! | `provoke-stack-overflow` | a thread runs into its guard page | 0x7F, 8 |
//! | `provoke-wait-at-dispatch` | a wait with a spin lock held | 0xB8 |
//! | `provoke-event-at-dirql` | an event is set above DISPATCH_LEVEL | 0xA |
//! | `provoke-kernel-fault` | the guest kernel panics | 0x53510001 |
//! | `provoke-nested-fault` | a panic whose record cannot be put together | 0x53510001, without a stack |
//! | `provoke-hang` | nothing, for ever, on every processor: for inject-nmi | 0x80 |

use core::ffi::c_void;
use core::hint::black_box;
use core::ptr;

use super::verifier_stops;
use crate::arch::boot::BootInfo;
use crate::console::println;
use crate::hal::{apic, interrupt::vector_of_isa_line};
use crate::ke::interrupt::{Connection, Service, Trigger};
use crate::ke::irql::Irql;
use crate::ke::{self, processor, thread};
use crate::mm::paging::Protection;
use crate::mm::{image, modules};
use crate::nt::{KDPC, KTIMER};

/// An ISA line that no device of the machine has.
const FREE_LINE: u32 = 10;
const NAME: &str = "provoked.sys";

/// A word of the command line, and what it does.
type Provocation = (&'static str, fn());

const PROVOCATIONS: [Provocation; 12] = [
    ("provoke-unloaded-isr", unloaded_isr),
    ("provoke-unloaded-thread", unloaded_thread),
    ("provoke-unloaded-timer", unloaded_timer),
    ("provoke-null-at-dispatch", null_at_dispatch),
    ("provoke-null-at-passive", null_at_passive),
    ("provoke-read-only", read_only),
    ("provoke-stack-overflow", stack_overflow),
    ("provoke-wait-at-dispatch", wait_at_dispatch),
    ("provoke-event-at-dirql", event_at_dirql),
    ("provoke-kernel-fault", kernel_fault),
    ("provoke-nested-fault", nested_fault),
    ("provoke-hang", hang),
];

/// The provocation that the command line asks for.
pub fn wanted(boot: &BootInfo) -> Option<fn()> {
    let stops = PROVOCATIONS.iter().chain(verifier_stops::STOPS);
    stops.into_iter().find(|(word, _)| boot.has_word(word)).map(|&(_, provoke)| provoke)
}

/// Maps code as a driver's image would be, and makes it known.
fn driver(code: &[u8]) -> image::ImageRegion {
    let Some(image) = image::map(0x3000) else {
        ke::bugcheck::kernel_fault(format_args!("no memory"), line!())
    };
    // SAFETY: the image is mapped, writable and longer than any of the code here.
    unsafe { image.pointer().as_ptr().add(0x1000).copy_from_nonoverlapping(code.as_ptr(), code.len()) };
    image.protect(0x1000, 0x1000, Protection::ReadExecute);
    modules::loaded(NAME, image.base(), image.bytes() as u64);
    image
}

fn unload(image: image::ImageRegion) {
    modules::unloaded(image.base());
    image::unmap(image);
}

/// The address of the code in a [`driver`].
fn code(image: &image::ImageRegion) -> u64 {
    image.base() + 0x1000
}

fn unloaded_isr() {
    // mov al, 1; ret
    let driver = driver(&[0xB0, 0x01, 0xC3]);
    let vector = vector_of_isa_line(FREE_LINE).unwrap_or(0);
    let connection = Connection {
        // SAFETY: the code just written is an ISR.
        routine: Service::Routine(unsafe {
            core::mem::transmute::<u64, crate::nt::ServiceRoutine>(code(&driver))
        }),
        context: ptr::null_mut(),
        lock: ptr::null_mut(),
        vector,
        synchronize_irql: Irql::of_vector(vector),
        trigger: Trigger::Edge,
        shared: false,
        affinity: 1,
    };
    println!("connected: {}", ke::interrupt::connect(connection).is_ok());
    apic::interrupt_self(vector);
    println!("left connected: {:?}", ke::interrupt::connected_in(driver.base()..driver.base() + 0x3000));
    unload(driver);
    apic::interrupt_self(vector);
}

fn unloaded_thread() {
    // pause; jmp to it
    let driver = driver(&[0xF3, 0x90, 0xEB, 0xFC]);
    // SAFETY: the code just written is such a function.
    let spin = unsafe { core::mem::transmute::<u64, extern "C" fn()>(code(&driver)) };
    let started = thread::spawn("left behind", 8, move || spin());
    println!("thread: {}", started.is_ok());
    thread::sleep_ns(50_000_000);
    unload(driver);
    thread::sleep_ns(1_000_000_000);
}

fn unloaded_timer() {
    let driver = driver(&[0xC3]);
    let timer: *mut KTIMER = driver.pointer().as_ptr().wrapping_add(0x2000).cast();
    // SAFETY: the image's last page is writable, and holds the timer until the image goes: which is the
    // point.
    unsafe {
        ke::timer::initialize(timer, crate::nt::object_type::TIMER_NOTIFICATION);
        ke::timer::KeSetTimer(timer, -500_000, ptr::null_mut());
    }
    unload(driver);
    thread::sleep_ns(1_000_000_000);
}

/// Queues a DPC with this code and lets it run.
fn run_as_dpc(code_bytes: &[u8]) {
    let driver = driver(code_bytes);
    let mut dpc = ke::dpc::UNUSED;
    let dpc: *mut KDPC = &raw mut dpc;
    // SAFETY: the DPC runs before this returns, and its code is a function.
    unsafe {
        let routine = core::mem::transmute::<u64, crate::nt::DeferredRoutine>(code(&driver));
        ke::dpc::initialize(dpc, Some(routine), ptr::null_mut::<c_void>());
        ke::dpc::insert(dpc, ptr::null_mut(), ptr::null_mut());
    }
    ke::dpc::flush_all();
}

fn null_at_dispatch() {
    // xor eax, eax; mov eax, [rax + 8]; ret
    run_as_dpc(&[0x31, 0xC0, 0x8B, 0x40, 0x08, 0xC3]);
}

fn call(code_bytes: &[u8]) {
    let driver = driver(code_bytes);
    // SAFETY: the code is a function.
    let function = unsafe { core::mem::transmute::<u64, extern "C" fn()>(code(&driver)) };
    function();
}

fn null_at_passive() {
    // xor eax, eax; mov [rax], eax; ret
    call(&[0x31, 0xC0, 0x89, 0x00, 0xC3]);
}

fn read_only() {
    // lea rax, [rip]; mov [rax], al; ret
    call(&[0x48, 0x8D, 0x05, 0, 0, 0, 0, 0x88, 0x00, 0xC3]);
}

#[allow(unconditional_recursion, reason = "that is what it is for")]
fn stack_overflow() {
    let room = black_box([0_u64; 64]);
    stack_overflow();
    black_box(&room);
}

fn wait_at_dispatch() {
    ke::irql::raise(Irql::DISPATCH);
    thread::sleep_ns(1_000_000);
}

fn event_at_dirql() {
    let event = ke::event::Event::new_notification();
    ke::irql::raise(Irql(5));
    event.set();
}

fn kernel_fault() {
    let nothing: Option<u8> = black_box(None);
    assert!(nothing.is_some(), "asked for on the command line");
}

fn nested_fault() {
    // The record names the thread that runs, which nobody is any more.
    processor::current().set_thread(ptr::without_provenance_mut(0x10));
    kernel_fault();
}

fn hang() {
    for _ in 0..processor::count() {
        let _ = thread::spawn("hung", 31, || {
            ke::irql::raise(Irql::DISPATCH);
            loop {
                core::hint::spin_loop();
            }
        });
    }
}

//! How the Verifier stands between a driver and an export.
//!
//! [`intercept!`] declares, beside the check that it is for, a routine that takes the place of an export in the imports of
//! drivers that are verified for one class. The declarations gather themselves, as exports do. Several classes may stand
//! before one export: they are gone through in the order of [`classes::ORDER`](super::classes::ORDER), and the last leads
//! to the export.
//!
//! Two kinds, by what they need:
//!
//! - `before` sees the arguments and lets the call pass, as it is, or answers it. The export is then *jumped* to: its
//!   caller is still the driver, which matters to everything that asks who calls it.
//! - `around` is a call of its own, and gets to see what came of it: it calls `site.next` itself, or does not. To an
//!   export behind it, it is the Verifier that calls; so one that asks for its caller is to be wrapped `before`.
//!
//! A driver's import leads to a *trampoline*: a few instructions that say which declaration it is, and for which driver. A
//! set of them, one for each declaration, is made when the driver's name is first set, and stays.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::classes::{Class, ORDER};
use super::verified::{self, Verified};
use crate::ex::{lookaside, pool};
use crate::ldr::export::{self, Module};
use crate::mm::frame::PAGE_SIZE;
use crate::mm::paging::Protection;
use crate::mm::region::{Region, Window};
use crate::nt::{NTSTATUS, STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use crate::selftest::{check, kernel_test};

/// One declaration, as [`intercept!`] leaves it in the section that the linker script gathers.
#[derive(Debug)]
#[repr(C)]
pub struct Wrap {
    /// For drivers that are verified for this.
    pub class: Class,
    /// The export in whose place it stands.
    pub export: &'static str,
    /// Where trampolines lead: with the address of a [`Link`] in R11, everything else as the driver left it.
    pub shim: unsafe extern "win64" fn(),
}

unsafe extern "C" {
    #[link_name = "__squall_verified_start"]
    static WRAPS_START: u8;
    #[link_name = "__squall_verified_end"]
    static WRAPS_END: u8;
}

fn table() -> &'static [Wrap] {
    let start = (&raw const WRAPS_START).cast::<Wrap>();
    let end = (&raw const WRAPS_END).cast::<Wrap>();
    let count = (end.addr() - start.addr()) / size_of::<Wrap>();
    // SAFETY: the linker script puts nothing but the statics of `intercept!` between the two symbols.
    unsafe { core::slice::from_raw_parts(start, count) }
}

/// A class's place in the order.
fn place(class: Class) -> usize {
    ORDER.iter().position(|&other| other == class).unwrap_or(ORDER.len())
}

/// One declaration's part in the chain of one driver.
#[derive(Debug)]
#[repr(C)]
pub struct Link {
    /// The routine behind it: another declaration's trampoline, or the export. The shims read this first field.
    next: AtomicUsize,
    driver: AtomicPtr<Verified>,
}

impl Link {
    /// The address of the routine behind it.
    pub fn next(&self) -> usize {
        self.next.load(Ordering::Acquire)
    }

    /// Whom it stands before.
    pub fn driver(&self) -> &'static Verified {
        // SAFETY: set once, before any import leads here, to a record that is never freed.
        unsafe { &*self.driver.load(Ordering::Acquire) }
    }
}

/// What a routine of the Verifier's knows of the call beside its arguments.
#[derive(Debug)]
pub struct Site<F> {
    /// Where the call returns to, in the driver.
    pub caller: usize,
    /// Who calls.
    pub driver: &'static Verified,
    /// What it calls, behind the Verifier.
    pub next: F,
}

/// An argument or an answer, of which the calling convention uses the lower bytes of a word.
///
/// # Safety
/// The lower bytes of `word` must be a `T`.
pub unsafe fn argument<T>(word: usize) -> T {
    const { assert!(size_of::<T>() <= size_of::<usize>()) };
    // SAFETY: the caller's contract; the word is large enough.
    unsafe { (&raw const word).cast::<T>().read() }
}

/// The trampolines of one driver.
pub struct Thunks {
    links: Box<[Link]>,
    code: Region,
}

impl fmt::Debug for Thunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thunks").field("base", &self.code.base()).finish_non_exhaustive()
    }
}

/// Bytes from one trampoline to the next.
const TRAMPOLINE: usize = 32;

impl Thunks {
    /// One trampoline for each declaration; none leads anywhere yet.
    pub fn new() -> Option<Self> {
        let links: Vec<_> = table()
            .iter()
            .map(|_| Link { next: AtomicUsize::new(0), driver: AtomicPtr::new(core::ptr::null_mut()) })
            .collect();
        let links = links.into_boxed_slice();
        let pages = (table().len() * TRAMPOLINE).div_ceil(PAGE_SIZE).max(1);
        let code = Region::map(Window::Images, 0, pages, Protection::ReadWrite)?;
        for (index, (wrap, link)) in table().iter().zip(&links).enumerate() {
            let mut bytes = [0xCC; TRAMPOLINE];
            // mov r11, link; mov rax, shim; jmp rax
            bytes[..2].copy_from_slice(&[0x49, 0xBB]);
            bytes[2..10].copy_from_slice(&(&raw const *link).expose_provenance().to_le_bytes());
            bytes[10..12].copy_from_slice(&[0x48, 0xB8]);
            bytes[12..20].copy_from_slice(&(wrap.shim as usize).to_le_bytes());
            bytes[20..22].copy_from_slice(&[0xFF, 0xE0]);
            // SAFETY: the region is mapped, writable, and large enough for every trampoline.
            unsafe { code.pointer().add(index * TRAMPOLINE).cast().write(bytes) };
        }
        code.protect(0, code.bytes(), Protection::ReadExecute);
        Some(Self { links, code })
    }

    /// Makes the trampolines those of `driver`.
    pub fn lead_to(&self, driver: &'static Verified) {
        for link in &self.links {
            link.driver.store(core::ptr::from_ref(driver).cast_mut(), Ordering::Release);
        }
    }

    /// Links the chains of a driver that is verified with `flags`.
    pub fn enforce(&self, flags: u32) {
        for (wrap, link) in table().iter().zip(&self.links) {
            let export =
                || export::lookup(Module::Ntoskrnl, wrap.export).map(|export| export.address().addr());
            let next = self.after(wrap.export, flags, Some(wrap.class)).or_else(export);
            link.next.store(next.unwrap_or(0), Ordering::Release);
        }
    }

    /// Where the chain before the export `name` begins, if anything stands before it.
    pub fn first(&self, name: &str, flags: u32) -> Option<usize> {
        self.after(name, flags, None)
    }

    /// The first trampoline of the chain behind those of `class`.
    fn after(&self, name: &str, flags: u32, class: Option<Class>) -> Option<usize> {
        let behind = class.map_or(0, |class| place(class) + 1);
        let candidates = table().iter().enumerate().filter(|(_, wrap)| {
            wrap.export == name && wrap.class.is_in(flags) && place(wrap.class) >= behind
        });
        let (index, _) = candidates.min_by_key(|(_, wrap)| place(wrap.class))?;
        Some(self.code.base() as usize + index * TRAMPOLINE)
    }
}

/// Declares routines that stand before exports; see the [module](self).
///
/// ```ignore
/// intercept! {
///     for PoolTracking;
///
///     /// *ExFooPool function (wdm.h)*: the rule, and the stop that breaking it is.
///     before fn ExFooPool(site; bytes: usize, tag: u32) -> PVOID {
///         if site.driver.has_enough() { Some(core::ptr::null_mut()) } else { None }
///     }
///
///     /// *KeFoo function (wdm.h)*: what is looked at once it has returned.
///     around fn KeFoo(site; object: *mut KFOO) {
///         // SAFETY: the driver's arguments.
///         unsafe { (site.next)(object) };
///         judge(object);
///     }
/// }
/// ```
///
/// A `before` routine answers `None` to let the call pass, `Some` to answer it itself.
macro_rules! intercept {
    (for $class:ident; $(
        $(#[$meta:meta])*
        $kind:ident fn $name:ident($site:ident $(; $($argument:ident: $type:ty),* $(,)?)?) $(-> $result:ty)? $body:block
    )*) => { $(
        const _: () = {
            use $crate::vf::thunk;
            type InterceptAnswer = thunk::intercept!(@answer $($result)?);
            type InterceptNext = unsafe extern "win64" fn($($($type),*)?) -> InterceptAnswer;
            const INTERCEPT_ARGUMENTS: &[&str] = &[$($(stringify!($argument)),*)?];
            type InterceptCall = $crate::ldr::caller::Call<{ INTERCEPT_ARGUMENTS.len() }>;

            /// The site and the arguments of a call.
            ///
            /// # Safety
            /// `call` must be one of this export.
            unsafe fn intercept_site(
                call: &InterceptCall,
                link: &thunk::Link,
            ) -> (thunk::Site<InterceptNext>, ($($($type,)*)?)) {
                // SAFETY: what is behind a link is the export, or a routine of its form.
                let next = unsafe { core::mem::transmute::<usize, InterceptNext>(link.next()) };
                let site = thunk::Site { caller: call.caller, driver: link.driver(), next };
                #[allow(unused_mut, unused_variables, reason = "of any number of arguments")]
                let mut words = call.arguments.iter().copied();
                // SAFETY: the words of a call are its arguments.
                (site, ($($(unsafe { thunk::argument::<$type>(words.next().unwrap_or(0)) },)*)?))
            }

            thunk::intercept! { @$kind
                [$(#[$meta])*] [$site] [$($($argument,)*)?] [$($($type,)*)?] $body
            }

            #[used]
            #[unsafe(link_section = ".squall.verified")]
            static WRAP: thunk::Wrap = thunk::Wrap {
                class: $crate::vf::classes::Class::$class,
                export: stringify!($name),
                shim: intercept_shim,
            };
        };
    )* };
    (@answer) => { () };
    (@answer $result:ty) => { $result };
    (@before [$($meta:tt)*] [$site:ident] [$($argument:ident,)*] [$($type:ty,)*] $body:block) => {
        $($meta)*
        #[allow(unused_variables, reason = "not every check looks at everything")]
        fn intercept_body($site: &thunk::Site<InterceptNext>, ($($argument,)*): ($($type,)*)) -> Option<InterceptAnswer> $body

        /// Whether the call was answered, and if so, with what.
        unsafe extern "win64" fn intercept_entry(
            call: &InterceptCall,
            link: &thunk::Link,
            answer: *mut InterceptAnswer,
        ) -> bool {
            const { assert!(size_of::<InterceptAnswer>() <= size_of::<usize>()) };
            // SAFETY: the shim passes a call of this export, and room for its answer.
            unsafe {
                let (site, arguments) = intercept_site(call, link);
                match intercept_body(&site, arguments) {
                    Some(given) => {
                        answer.write(given);
                        true
                    }
                    None => false,
                }
            }
        }

        #[unsafe(naked)]
        unsafe extern "win64" fn intercept_shim() {
            core::arch::naked_asm!(
                "mov [rsp + 8], rcx",
                "mov [rsp + 16], rdx",
                "mov [rsp + 24], r8",
                "mov [rsp + 32], r9",
                "mov rcx, rsp",
                "mov rdx, r11",
                "sub rsp, 56",
                "mov [rsp + 40], r11",
                "mov qword ptr [rsp + 32], 0",
                "lea r8, [rsp + 32]",
                "call {}",
                "test al, al",
                "mov rax, [rsp + 32]",
                "mov r11, [rsp + 40]",
                "lea rsp, [rsp + 56]",
                "jnz 2f",
                "mov rcx, [rsp + 8]",
                "mov rdx, [rsp + 16]",
                "mov r8, [rsp + 24]",
                "mov r9, [rsp + 32]",
                "jmp [r11]",
                "2:",
                "ret",
                sym intercept_entry
            )
        }
    };
    (@around [$($meta:tt)*] [$site:ident] [$($argument:ident,)*] [$($type:ty,)*] $body:block) => {
        $($meta)*
        #[allow(unused_variables, reason = "not every check looks at everything")]
        fn intercept_body($site: &thunk::Site<InterceptNext>, ($($argument,)*): ($($type,)*)) -> InterceptAnswer $body

        unsafe extern "win64" fn intercept_entry(call: &InterceptCall, link: &thunk::Link) -> InterceptAnswer {
            // SAFETY: the shim passes a call of this export.
            let (site, arguments) = unsafe { intercept_site(call, link) };
            intercept_body(&site, arguments)
        }

        #[unsafe(naked)]
        unsafe extern "win64" fn intercept_shim() {
            core::arch::naked_asm!(
                "mov [rsp + 8], rcx",
                "mov [rsp + 16], rdx",
                "mov [rsp + 24], r8",
                "mov [rsp + 32], r9",
                "mov rcx, rsp",
                "mov rdx, r11",
                "sub rsp, 40",
                "call {}",
                "add rsp, 40",
                "ret",
                sym intercept_entry
            )
        }
    };
}
pub(crate) use intercept;

mod rehearsal {
    //! Routines that stand before exports for drivers of the tests only.
    use core::sync::atomic::{AtomicUsize, Ordering};

    use crate::ex::lookaside::Lookaside;
    use crate::nt::{NTSTATUS, PVOID};
    use crate::vf::classes::Class;

    /// The caller that was seen last.
    pub static CALLER: AtomicUsize = AtomicUsize::new(0);
    /// Who was called, a decimal digit each.
    pub static ORDER: AtomicUsize = AtomicUsize::new(0);

    fn note(digit: usize) {
        ORDER.store(ORDER.load(Ordering::Relaxed) * 10 + digit, Ordering::Relaxed);
    }

    super::intercept! {
        for DressRehearsal;

        /// Comes after the other one.
        before fn ExAllocatePoolWithTag(site; kind: u32, bytes: usize, tag: u32) -> PVOID {
            note(2);
            None
        }

        /// Has the call, and sees what came of it.
        around fn ExInitializeLookasideListEx(
            site;
            list: *mut Lookaside,
            allocate: *const (),
            free: *const (),
            kind: u32,
            flags: u32,
            size: usize,
            tag: u32,
            depth: u16,
        ) -> NTSTATUS {
            note(3);
            // SAFETY: the caller's arguments.
            let status = unsafe { (site.next)(list, allocate, free, kind, flags, size, tag, depth) };
            note(if status.is_success() { 4 } else { 5 });
            status
        }
    }

    super::intercept! {
        for Rehearsal;

        /// Lets a call pass, or answers it where it has no tag.
        before fn ExAllocatePoolWithTag(site; kind: u32, bytes: usize, tag: u32) -> PVOID {
            if site.driver.is_for(Class::Rehearsal) {
                CALLER.store(site.caller, Ordering::Relaxed);
            }
            note(1);
            (tag == 0).then(core::ptr::null_mut)
        }
    }
}

/// A verified driver of the tests, for as long as the closure runs.
fn rehearse(
    flags: u32,
    test: impl FnOnce(&'static Verified) -> crate::selftest::Outcome,
) -> crate::selftest::Outcome {
    let range = 0xFFFF_F8FE_0000_0000..0xFFFF_F8FE_0000_1000;
    check!(verified::set("rehearsal.sys", flags).is_ok());
    let driver = verified::begin_load("REHEARSAL.SYS", &range);
    let outcome = match driver {
        Some(driver) => test(driver),
        None => Ok(()),
    };
    check!(driver.is_some() == (flags != 0));
    check!(verified::at(range.start as usize).is_some() == driver.is_some());
    verified::end_load(range.start);
    check!(verified::at(range.start as usize).is_none());
    outcome
}

kernel_test! {
    fn every_routine_of_the_verifiers_stands_before_an_export_and_once_for_a_class() {
        for (index, wrap) in table().iter().enumerate() {
            check!(export::lookup(Module::Ntoskrnl, wrap.export).is_some());
            check!(place(wrap.class) < ORDER.len());
            let same = |other: &Wrap| other.export == wrap.export && other.class == wrap.class;
            check!(!table()[..index].iter().any(same));
        }
    }

    fn a_call_passes_every_class_in_order_and_keeps_its_caller() {
        type Allocate = unsafe extern "win64" fn(u32, usize, u32) -> crate::nt::PVOID;
        let both = Class::Rehearsal as u32 | Class::DressRehearsal as u32;
        for (flags, seen, answered) in [(both, 12, 1), (Class::DressRehearsal as u32, 2, 2), (0, 0, 0)] {
            rehearse(flags, |driver| {
                let export = pool::ExAllocatePoolWithTag as *const () as usize;
                let bound = driver.bound("ExAllocatePoolWithTag", export);
                check!(bound != export);
                check!(flags & Class::Rehearsal as u32 == 0 || driver.is_for(Class::Rehearsal));
                // SAFETY: what the import leads to has the export's form.
                let allocate = unsafe { core::mem::transmute::<usize, Allocate>(bound) };
                rehearsal::ORDER.store(0, Ordering::Relaxed);
                let tag = u32::from_le_bytes(*b"Rehe");
                // SAFETY: a plain allocation, freed below.
                let block = unsafe { allocate(0, 40, tag) };
                check!(!block.is_null() && rehearsal::ORDER.load(Ordering::Relaxed) == seen);
                let held = pool::allocated_by(&crate::mm::paging::kernel_text());
                let held = held.iter().find(|held| held.address == block.addr());
                check!(held.is_some_and(|held| held.size == 40 && held.tag == tag));
                if flags == both {
                    let caller = rehearsal::CALLER.load(Ordering::Relaxed);
                    check!(held.is_some_and(|held| held.caller == caller));
                }
                pool::free(block.addr(), tag);
                rehearsal::ORDER.store(0, Ordering::Relaxed);
                // SAFETY: a plain allocation, freed below.
                let block = unsafe { allocate(0, 8, 0) };
                check!(block.is_null() == (answered == 1));
                check!(rehearsal::ORDER.load(Ordering::Relaxed) == answered);
                if !block.is_null() {
                    pool::free(block.addr(), 0);
                }
                Ok(())
            })?;
        }
    }

    fn a_call_that_is_replaced_has_all_its_arguments_and_its_answer() {
        type Initialize = unsafe extern "win64" fn(
            *mut lookaside::Lookaside, *const (), *const (), u32, u32, usize, u32, u16,
        ) -> NTSTATUS;
        rehearse(Class::DressRehearsal as u32, |driver| {
            let export = lookaside::ExInitializeLookasideListEx as *const () as usize;
            check!(driver.bound("ExDeleteLookasideListEx", 7) == 7);
            let bound = driver.bound("ExInitializeLookasideListEx", export);
            check!(bound != export);
            let mut list = core::mem::MaybeUninit::uninit();
            let none = core::ptr::null();
            rehearsal::ORDER.store(0, Ordering::Relaxed);
            // SAFETY: what the import leads to has the export's form; the list is deleted.
            unsafe {
                let initialize = core::mem::transmute::<usize, Initialize>(bound);
                check!(initialize(list.as_mut_ptr(), none, none, 512, 0, 32, 7, 1) == STATUS_INVALID_PARAMETER);
                check!(rehearsal::ORDER.load(Ordering::Relaxed) == 35);
                check!(initialize(list.as_mut_ptr(), none, none, 512, 0, 32, 7, 0) == STATUS_SUCCESS);
                check!(rehearsal::ORDER.load(Ordering::Relaxed) == 3534);
                lookaside::ExDeleteLookasideListEx(list.as_mut_ptr());
            }
            Ok(())
        })?;
    }
}

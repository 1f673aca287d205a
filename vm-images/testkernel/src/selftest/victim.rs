//! A driver for tests, of a few instructions, whose calls and accesses are those of a driver that is verified.
//!
//! Its image is mapped and known like any other. What the test does "in the driver" goes through a routine in that image, so
//! that return addresses and instruction pointers lie where a driver's would.

use core::ops::Range;

use crate::ke::bugcheck::kernel_fault;
use crate::ldr::export::{self, Module};
use crate::mm::image::{self, ImageRegion};
use crate::mm::modules;
use crate::mm::paging::Protection;
use crate::vf::unload;
use crate::vf::verified::{self, Verified};

const NAME: &str = "victim.sys";
/// One page each: headers, code, data, code in a pageable section.
const SIZE: usize = 0x4000;
const CODE: usize = 0x1000;
const DATA: usize = 0x2000;
const PAGEABLE: usize = 0x3000;
/// Bytes from one routine to the next.
const STRIDE: usize = 128;

/// `extern "win64" fn(routine, *arguments)`: calls it with [`ARGUMENTS`] words from there.
const CALL: &[u8] = &[
    0x56, // push rsi
    0x57, // push rdi
    0x48, 0x83, 0xEC, 0x68, // sub rsp, 104
    0x48, 0x89, 0xC8, // mov rax, rcx
    0x49, 0x89, 0xD2, // mov r10, rdx
    0x48, 0x8D, 0x72, 0x20, // lea rsi, [rdx + 32]: the fifth and on
    0x48, 0x8D, 0x7C, 0x24, 0x20, // lea rdi, [rsp + 32]
    0xB9, 0x07, 0, 0, 0, // mov ecx, 7
    0xF3, 0x48, 0xA5, // rep movsq
    0x49, 0x8B, 0x0A, // mov rcx, [r10]
    0x49, 0x8B, 0x52, 0x08, // mov rdx, [r10 + 8]
    0x4D, 0x8B, 0x42, 0x10, // mov r8, [r10 + 16]
    0x4D, 0x8B, 0x4A, 0x18, // mov r9, [r10 + 24]
    0xFF, 0xD0, // call rax
    0x48, 0x83, 0xC4, 0x68, // add rsp, 104
    0x5F, // pop rdi
    0x5E, // pop rsi
    0xC3, // ret
];
/// The most that [`CALL`] passes on.
const ARGUMENTS: usize = 11;
/// `extern "win64" fn(address) -> u8`: reads a byte.
const READ: &[u8] = &[0x8A, 0x01, 0xC3];
/// `extern "win64" fn(address, u8)`: writes a byte.
const WRITE: &[u8] = &[0x88, 0x11, 0xC3];
/// `extern "win64" fn(address)`: returns when the byte there is not 0 any more. For a thread.
const WAIT: &[u8] = &[
    0x80, 0x39, 0x00, // cmp byte ptr [rcx], 0
    0xF3, 0x90, // pause
    0x74, 0xF9, // je to the comparison
    0xC3, // ret
];
/// A routine that returns at once, as a DPC's or a work item's may.
const NOTHING: &[u8] = &[0xC3];

type Call = unsafe extern "win64" fn(usize, *const usize) -> usize;

/// The driver, loaded.
pub struct Victim {
    image: ImageRegion,
    driver: Option<&'static Verified>,
}

impl Victim {
    /// Loads it, verified with these flags.
    pub fn load(flags: u32) -> Self {
        let Some(image) = image::map(SIZE) else { kernel_fault(format_args!("no memory"), line!()) };
        let base = image.pointer().as_ptr();
        for (index, routine) in [CALL, READ, WRITE, NOTHING, WAIT].into_iter().enumerate() {
            // SAFETY: the image is mapped, writable, and large enough for these routines in its second page.
            unsafe {
                base.add(CODE + index * STRIDE).copy_from_nonoverlapping(routine.as_ptr(), routine.len());
            }
        }
        // SAFETY: as above, in the fourth page.
        unsafe { base.add(PAGEABLE).copy_from_nonoverlapping(NOTHING.as_ptr(), NOTHING.len()) };
        let range = image.base()..image.base() + SIZE as u64;
        let set = verified::set(NAME, flags);
        let driver = verified::begin_load(NAME, &range);
        if set.is_err() || driver.is_some() != (flags != 0) {
            kernel_fault(format_args!("{NAME} could not be set"), line!());
        }
        image.protect(CODE, 1, Protection::ReadExecute);
        image.protect(PAGEABLE, 1, Protection::ReadExecute);
        if let Some(driver) = driver {
            let start = range.start + PAGEABLE as u64;
            unload::image_is_ready(driver, &range, core::iter::once(start..range.end));
        }
        modules::loaded(NAME, range.start, SIZE as u64);
        Self { image, driver }
    }

    /// Its addresses.
    pub fn range(&self) -> Range<u64> {
        self.image.base()..self.image.base() + SIZE as u64
    }

    fn routine(&self, index: usize) -> u64 {
        self.image.base() + (CODE + index * STRIDE) as u64
    }

    /// A routine of its own that does nothing.
    pub fn nothing(&self) -> u64 {
        self.routine(3)
    }

    /// A routine of its own that waits for a byte not to be 0.
    pub fn wait(&self) -> u64 {
        self.routine(4)
    }

    /// A routine that does nothing, alone in a pageable section.
    pub fn pageable(&self) -> u64 {
        self.image.base() + PAGEABLE as u64
    }

    /// Calls [`Self::pageable`].
    pub fn call_pageable(&self) {
        // SAFETY: the routine is in the image; whether it is in memory is the test's affair.
        unsafe { core::mem::transmute::<u64, unsafe extern "win64" fn()>(self.pageable())() }
    }

    /// A page of its own, for global data.
    pub fn data(&self) -> usize {
        self.image.base() as usize + DATA
    }

    /// Calls the export `name` as its import does, with up to [`ARGUMENTS`] arguments, and as many zeros as are missing.
    pub fn call(&self, name: &str, arguments: &[usize]) -> usize {
        let Some(export) =
            export::lookup(Module::Ntoskrnl, name).map(|export| export.address().expose_provenance())
        else {
            kernel_fault(format_args!("no export {name}"), line!())
        };
        let target = self.driver.map_or(export, |driver| driver.bound(name, export));
        let mut words = [0; ARGUMENTS];
        for (word, argument) in words.iter_mut().zip(arguments) {
            *word = *argument;
        }
        // SAFETY: the routine is in the image, and passes the arguments on to an export that takes no more.
        unsafe { core::mem::transmute::<u64, Call>(self.routine(0))(target, words.as_ptr()) }
    }

    /// Reads a byte.
    pub fn read(&self, address: usize) -> u8 {
        // SAFETY: the routine is in the image; what it reads is the test's affair.
        unsafe {
            core::mem::transmute::<u64, unsafe extern "win64" fn(usize) -> u8>(self.routine(1))(address)
        }
    }

    /// Writes a byte.
    pub fn write(&self, address: usize, value: u8) {
        // SAFETY: as above.
        unsafe {
            core::mem::transmute::<u64, unsafe extern "win64" fn(usize, u8)>(self.routine(2))(address, value)
        }
    }

    /// Allocates nonpaged pool.
    pub fn allocate(&self, bytes: usize) -> usize {
        self.call("ExAllocatePoolWithTag", &[0, bytes, u32::from_le_bytes(*b"Vict") as usize])
    }

    /// Unloads it, with everything that the Verifier looks at then.
    pub fn unload(self) {
        let range = self.range();
        unload::before_image_goes(&range);
        modules::unloaded(range.start);
        image::unmap(self.image);
        unload::image_is_gone(&range);
    }
}

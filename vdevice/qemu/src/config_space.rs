//! The configuration space of a PCI device of QEMU's, found by what is in it.
//!
//! QEMU has no function that sets a device's identity: its own devices write into their class or into the
//! array of bytes that their object points to. Where either lies differs between versions. But the object is
//! one block of memory, and one of the words in it is that pointer: the one behind which the same 256 bytes
//! are found that QEMU's own function reads, each time that one of them is changed through QEMU's own
//! function. The function to call for writes of the guest's is found the same way: one word of the object is
//! the address of the default one.
//!
//! Anything but exactly one word is an error, and nothing has been changed.

use std::ffi::{c_int, c_void};
use std::os::fd::AsRawFd;

use thiserror::Error;

use crate::abi::Object;
use crate::symbols::{WriteConfig, qemu};

/// The part of configuration space that every PCI device has.
const LEN: usize = 256;

/// `INTERRUPT_LINE`: a register that hardware does not look at, which any value can be written to.
const INTERRUPT_LINE: u32 = 0x3C;

/// Where the offset of the first capability is.
const CAPABILITIES: u8 = 0x34;

/// Objects of the sizes that a PCI device can have.
const SIZES: std::ops::RangeInclusive<usize> = 512..=65536;

/// No pointer to anything is below.
const LOWEST_ADDRESS: usize = 0x1_0000;

/// Why a device's configuration space is not touched.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Unrecognized {
    #[error("its object of {0} bytes is not a PCI device as known")]
    Size(usize),
    #[error("its INTERRUPT_LINE register does not keep what is written to it")]
    Fixed,
    #[error("{0} places look like its configuration space, not 1")]
    Space(usize),
    #[error("{0} places look like its write function, not 1")]
    Writer(usize),
    #[error("cannot make a pipe to look at its memory with: {0}")]
    Pipe(String),
}

/// The configuration space of a realized PCI device.
pub(crate) struct ConfigSpace {
    bytes: *mut u8,
    writer: *mut WriteConfig,
}

impl ConfigSpace {
    /// Finds the configuration space of `object`.
    ///
    /// # Safety
    /// `object` is a PCI device of QEMU's that its parent has realized, no guest can reach it yet, and it was
    /// allocated by QEMU as every object is: as one block of the C library's heap.
    pub(crate) unsafe fn find(object: *mut Object) -> Result<Self, Unrecognized> {
        let access = Access { read: qemu().pci_default_read_config, write: qemu().pci_default_write_config };
        // SAFETY: by the caller's word.
        unsafe { Self::find_by(object, &access) }
    }

    /// # Safety
    /// As for [`find`](Self::find), of the functions that are given.
    unsafe fn find_by(object: *mut Object, access: &Access) -> Result<Self, Unrecognized> {
        // SAFETY: by the caller's word, the start of a block.
        let size = unsafe { libc::malloc_usable_size(object.cast()) };
        if !SIZES.contains(&size) {
            return Err(Unrecognized::Size(size));
        }
        let word = |index: usize| object.cast::<usize>().wrapping_add(index);
        let words = size / size_of::<usize>();
        let default_writer = access.write as usize;
        let is_writer = |index: &usize| {
            // SAFETY: an aligned word inside the block.
            unsafe { word(*index).read() == default_writer }
        };
        let writers: Vec<usize> = (0..words).filter(is_writer).collect();
        let [writer] = writers[..] else { return Err(Unrecognized::Writer(writers.len())) };

        let peeker = Peeker::new()?;
        // SAFETY: an aligned word inside the block.
        let mut pointers: Vec<usize> = (0..words).map(|index| unsafe { word(index).read() }).collect();
        pointers.retain(|pointer| *pointer >= LOWEST_ADDRESS);
        pointers.sort_unstable();
        pointers.dedup();
        // SAFETY: by the caller's word.
        let original = unsafe { access.byte(object, INTERRUPT_LINE) };
        for pattern in [0x5A, 0xA5, original] {
            // SAFETY: by the caller's word.
            unsafe { (access.write)(object, INTERRUPT_LINE, u32::from(pattern), 1) };
            // SAFETY: by the caller's word.
            let image = unsafe { access.image(object) };
            if image[INTERRUPT_LINE as usize] != pattern {
                return Err(Unrecognized::Fixed);
            }
            pointers.retain(|pointer| peeker.read(*pointer) == Some(image));
        }
        let [space] = pointers[..] else { return Err(Unrecognized::Space(pointers.len())) };
        Ok(Self { bytes: std::ptr::with_exposed_provenance_mut(space), writer: word(writer).cast() })
    }

    /// Writes bytes, as the hardware's maker would have.
    pub(crate) fn burn(&mut self, offset: u8, bytes: &[u8]) {
        for (place, byte) in (usize::from(offset)..LEN).zip(bytes) {
            // SAFETY: inside the 256 bytes that `find` has found, which live as long as the device is
            // realized; the big lock is held, so nobody else touches them.
            unsafe { self.bytes.wrapping_add(place).write(*byte) };
        }
    }

    /// Where the capability `wanted` is, if the device has it (*PCI Local Bus Specification*, "Capabilities List").
    pub(crate) fn capability(&self, wanted: u8) -> Option<u8> {
        let mut place = self.byte(CAPABILITIES);
        // There is room for 48 of them; a list that goes round has more.
        for _ in 0..48 {
            place &= !3;
            if place == 0 {
                return None;
            }
            if self.byte(place) == wanted {
                return Some(place);
            }
            place = self.byte(place | 1);
        }
        None
    }

    /// The place of a byte.
    pub(crate) fn place(&self, offset: u8) -> *const u8 {
        self.bytes.wrapping_add(usize::from(offset)).cast_const()
    }

    fn byte(&self, offset: u8) -> u8 {
        // SAFETY: inside the 256 bytes that `find` has found, which live as long as the device is realized; the big lock is
        // held, so nobody writes to them.
        unsafe { self.place(offset).read() }
    }

    /// Has `writer` called for writes of the guest's, which calls `pci_default_write_config` itself.
    pub(crate) fn hook_writes(&mut self, writer: WriteConfig) {
        // SAFETY: the word of the object that holds the function to call, as `find` has found; only a
        // function of this very type was ever there.
        unsafe { self.writer.write(writer) };
    }
}

/// QEMU's functions that read and write a device's configuration space.
struct Access {
    read: unsafe extern "C" fn(*mut Object, u32, c_int) -> u32,
    write: WriteConfig,
}

impl Access {
    /// # Safety
    /// As for [`ConfigSpace::find`].
    unsafe fn byte(&self, object: *mut Object, offset: u32) -> u8 {
        // SAFETY: by the caller's word.
        unsafe { (self.read)(object, offset, 1) as u8 }
    }

    /// # Safety
    /// As for [`ConfigSpace::find`].
    unsafe fn image(&self, object: *mut Object) -> [u8; LEN] {
        // SAFETY: by the caller's word.
        std::array::from_fn(|offset| unsafe { self.byte(object, offset as u32) })
    }
}

/// Reads memory of this process that may not be there: the kernel is asked to send it through a pipe, and
/// says so where it cannot.
struct Peeker {
    reader: std::io::PipeReader,
    writer: std::io::PipeWriter,
}

impl Peeker {
    fn new() -> Result<Self, Unrecognized> {
        let (reader, writer) = std::io::pipe().map_err(|error| Unrecognized::Pipe(error.to_string()))?;
        Ok(Self { reader, writer })
    }

    fn read(&self, address: usize) -> Option<[u8; LEN]> {
        let place: *const c_void = std::ptr::with_exposed_provenance(address);
        // SAFETY: the kernel reads the memory, and fails where there is none. An empty pipe takes 256 bytes
        // whole.
        let sent = unsafe { libc::write(self.writer.as_raw_fd(), place, LEN) };
        let sent = usize::try_from(sent).ok().filter(|sent| *sent > 0)?;
        let mut bytes = [0; LEN];
        std::io::Read::read_exact(&mut &self.reader, &mut bytes[..sent]).ok()?;
        (sent == LEN).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An object of 4 KiB, as QEMU might lay one out: the address of its configuration space in word 1, of its write function
    /// in word 3.
    struct Fake {
        words: Vec<usize>,
        bytes: Vec<u8>,
        twin: Vec<u8>,
    }

    impl Fake {
        fn new() -> Self {
            let bytes: Vec<u8> = (0..LEN).map(|n| n as u8 ^ 0x80).collect();
            let mut fake = Self { words: vec![7; 512], twin: bytes.clone(), bytes };
            fake.words[0] = std::ptr::from_ref(&fake.bytes).addr();
            fake.words[1] = fake.bytes.as_mut_ptr().expose_provenance();
            fake.words[3] = write as *const () as usize;
            fake
        }

        fn find(&mut self) -> Result<usize, Unrecognized> {
            self.find_by(write)
        }

        fn find_by(&mut self, write: WriteConfig) -> Result<usize, Unrecognized> {
            let (bytes, twin) = (self.bytes.as_mut_ptr(), self.twin.as_mut_ptr());
            SPACE.set((bytes, twin));
            // SAFETY: a block of the heap; the functions touch `SPACE` alone.
            let found =
                unsafe { ConfigSpace::find_by(self.words.as_mut_ptr().cast(), &Access { read, write }) };
            found.map(|space| space.bytes.addr() - bytes.addr())
        }
    }

    thread_local! {
        static SPACE: std::cell::Cell<(*mut u8, *mut u8)> =
            const { std::cell::Cell::new((std::ptr::null_mut(), std::ptr::null_mut())) };
    }

    unsafe extern "C" fn read(_: *mut Object, offset: u32, _: c_int) -> u32 {
        let place = SPACE.get().0.wrapping_add(offset as usize);
        // SAFETY: one of the 256 bytes.
        u32::from(unsafe { place.read() })
    }

    unsafe extern "C" fn write(_: *mut Object, offset: u32, value: u32, _: c_int) {
        let (bytes, twin) = SPACE.get();
        for place in [bytes, twin] {
            // SAFETY: one of the 256 bytes.
            unsafe { place.wrapping_add(offset as usize).write(value as u8) };
        }
    }

    /// Each thing that is relied on of an object, gone wrong: refused, in one line, and nothing has changed.
    #[test]
    fn an_object_that_is_laid_out_otherwise_is_refused() {
        type Spoil = fn(&mut Fake);
        let no_writer: Spoil = |fake| fake.words[3] = 7;
        let two_writers: Spoil = |fake| fake.words[9] = fake.words[3];
        let no_space: Spoil = |fake| fake.words[1] ^= 1 << 40;
        let two_spaces: Spoil = |fake| fake.words[9] = fake.twin.as_mut_ptr().expose_provenance();
        for (spoil, expected) in [
            (no_writer, Unrecognized::Writer(0)),
            (two_writers, Unrecognized::Writer(2)),
            (no_space, Unrecognized::Space(0)),
            (two_spaces, Unrecognized::Space(2)),
            ((|fake| fake.words = vec![7; 16]) as Spoil, Unrecognized::Size(0)),
        ] {
            let mut fake = Fake::new();
            let before = fake.bytes.clone();
            spoil(&mut fake);
            let error = fake.find().unwrap_err();
            let same = std::mem::discriminant(&error) == std::mem::discriminant(&expected);
            assert!(error == expected || (same && matches!(error, Unrecognized::Size(_))), "{error}");
            assert!(!error.to_string().contains('\n'));
            assert_eq!(fake.bytes, before);
        }
        let mut fake = Fake::new();
        fake.words[3] = writes_nothing as *const () as usize;
        assert_eq!(fake.find_by(writes_nothing), Err(Unrecognized::Fixed));
        assert_eq!(Fake::new().find(), Ok(0));
    }

    #[test]
    fn capabilities_are_found_and_a_list_that_goes_round_ends() {
        let mut bytes = [0; LEN];
        let mut writer: WriteConfig = writes_nothing;
        bytes[0x34] = 0x40;
        bytes[0x40..0x42].copy_from_slice(&[5, 0x50]);
        bytes[0x50..0x52].copy_from_slice(&[0x11, 0x63]);
        bytes[0x60..0x62].copy_from_slice(&[0x10, 0]);
        let space = ConfigSpace { bytes: bytes.as_mut_ptr(), writer: &raw mut writer };
        let found = [5, 0x11, 0x10, 9].map(|wanted| space.capability(wanted));
        assert_eq!(found, [Some(0x40), Some(0x50), Some(0x60), None]);
        bytes[0x61] = 0x40;
        let space = ConfigSpace { bytes: bytes.as_mut_ptr(), writer: &raw mut writer };
        assert_eq!(space.capability(9), None);
    }

    unsafe extern "C" fn writes_nothing(_: *mut Object, _: u32, _: u32, _: i32) {}

    #[test]
    fn memory_that_is_there_is_read_and_other_is_not() {
        let peeker = Peeker::new().unwrap();
        let bytes: [u8; LEN] = std::array::from_fn(|n| n as u8);
        assert_eq!(peeker.read(bytes.as_ptr().expose_provenance()), Some(bytes));
        assert_eq!(peeker.read(LOWEST_ADDRESS), None);
        assert_eq!(peeker.read(usize::MAX - LEN), None);
        assert_eq!(peeker.read(bytes.as_ptr().expose_provenance()), Some(bytes), "nothing is left behind");
    }
}

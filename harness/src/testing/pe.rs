//! The smallest x86_64 driver image, and every way to break it.
//!
//! Shared between the unit tests and the tests that boot a guest.

/// A PE image with one section, `.text`; each field can be made wrong.
#[derive(Clone, Debug)]
pub(crate) struct PeBuilder {
    /// COFF machine.
    pub(crate) machine: u16,
    /// 1 is native.
    pub(crate) subsystem: u16,
    /// How many sections the header says there are.
    pub(crate) sections_claimed: u16,
    /// Where `.text` lies in the file, as its section header says.
    pub(crate) section_file_offset: u32,
    /// A function to import from ntoskrnl.exe.
    pub(crate) import: Option<&'static str>,
    /// What DriverEntry, at the section's beginning, does; at most 64 bytes.
    pub(crate) code: Vec<u8>,
}

const HEADERS: u32 = 0x200;
const TEXT: u32 = 0x1000;
const TEXT_SIZE: u32 = 0x200;

impl PeBuilder {
    /// A driver whose DriverEntry does nothing and succeeds; it has no Unload.
    pub(crate) fn driver() -> Self {
        Self {
            machine: 0x8664,
            subsystem: 1,
            sections_claimed: 1,
            section_file_offset: HEADERS,
            import: None,
            // xor eax, eax; ret
            code: vec![0x31, 0xC0, 0xC3],
        }
    }

    /// A driver whose Unload is this code.
    #[allow(dead_code, reason = "this file is shared by two test crates, and one of them runs no drivers")]
    pub(crate) fn with_unload(unload: &[u8]) -> Self {
        // lea rax, [rip + 7]; mov [rcx + 0x68], rax; xor eax, eax; ret
        let mut code = vec![0x48, 0x8D, 0x05, 7, 0, 0, 0, 0x48, 0x89, 0x41, 0x68, 0x31, 0xC0, 0xC3];
        code.extend_from_slice(unload);
        Self { code, ..Self::driver() }
    }

    /// The file's bytes.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut file = vec![0; (HEADERS + TEXT_SIZE) as usize];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"MZ");
        put(0x3C, &0x40_u32.to_le_bytes());
        put(0x40, b"PE\0\0");
        put(0x44, &self.machine.to_le_bytes());
        put(0x46, &self.sections_claimed.to_le_bytes());
        put(0x54, &0xF0_u16.to_le_bytes());
        put(0x56, &0x0022_u16.to_le_bytes());
        let optional = 0x58;
        put(optional, &0x20B_u16.to_le_bytes());
        put(optional + 16, &TEXT.to_le_bytes());
        put(optional + 20, &TEXT.to_le_bytes());
        put(optional + 24, &0x1_4000_0000_u64.to_le_bytes());
        put(optional + 32, &0x1000_u32.to_le_bytes());
        put(optional + 36, &0x200_u32.to_le_bytes());
        put(optional + 48, &10_u16.to_le_bytes());
        put(optional + 56, &0x2000_u32.to_le_bytes());
        put(optional + 60, &HEADERS.to_le_bytes());
        put(optional + 68, &self.subsystem.to_le_bytes());
        put(optional + 108, &16_u32.to_le_bytes());
        let section = optional + 0xF0;
        put(section, b".text");
        put(section + 8, &TEXT_SIZE.to_le_bytes());
        put(section + 12, &TEXT.to_le_bytes());
        put(section + 16, &TEXT_SIZE.to_le_bytes());
        put(section + 20, &self.section_file_offset.to_le_bytes());
        put(section + 36, &0x6000_0020_u32.to_le_bytes());
        assert!(self.code.len() <= 0x40, "the import table begins there");
        put(HEADERS as usize, &self.code);
        if let Some(name) = self.import {
            // One descriptor and its terminator at 0x40 of the section, then thunks, then names.
            put(optional + 112 + 8, &(TEXT + 0x40).to_le_bytes());
            put(optional + 112 + 12, &40_u32.to_le_bytes());
            let base = HEADERS as usize;
            put(base + 0x40, &(TEXT + 0x80).to_le_bytes());
            put(base + 0x4C, &(TEXT + 0xC0).to_le_bytes());
            put(base + 0x50, &(TEXT + 0xA0).to_le_bytes());
            for thunk in [0x80, 0xA0] {
                put(base + thunk, &u64::from(TEXT + 0x100).to_le_bytes());
            }
            put(base + 0xC0, b"ntoskrnl.exe\0");
            put(base + 0x102, name.as_bytes());
            // The loader writes the addresses of the imports into the section.
            put(section + 36, &0xE000_0020_u32.to_le_bytes());
        }
        file
    }
}

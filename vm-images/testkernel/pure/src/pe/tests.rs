//! Images made by hand, whole and damaged.

use alloc::string::ToString;
use alloc::vec;

use proptest::prelude::*;

use super::image::word64;
use super::*;

const BASE: u64 = 0x1_4000_0000;

/// A file of the smallest kind that loads: headers, `.text` at 0x1000, `.data` at 0x2000, both one page.
///
/// `.data` holds the directories: imports at 0x2000, relocations at 0x2400, load configuration at 0x2600.
struct Sample(Vec<u8>);

const NT: usize = 0x80;
const OPTIONAL: usize = NT + 24;
const TABLE: usize = OPTIONAL + 240;
const DATA: usize = 0x400;

impl Sample {
    fn new() -> Self {
        let mut sample = Self(vec![0; DATA + 0x1000]);
        sample.put(0, b"MZ").put32(0x3C, NT as u32);
        sample
            .put(NT, b"PE\0\0")
            .put16(NT + 4, 0x8664)
            .put16(NT + 6, 2)
            .put16(NT + 20, 240)
            .put16(NT + 22, 0x22);
        sample.put16(OPTIONAL, 0x20B).put32(OPTIONAL + 16, 0x1000).put64(OPTIONAL + 24, BASE);
        sample.put32(OPTIONAL + 32, 0x1000).put32(OPTIONAL + 36, 0x200);
        sample.put32(OPTIONAL + 56, 0x3000).put32(OPTIONAL + 60, 0x200);
        sample.put16(OPTIONAL + 68, 1).put32(OPTIONAL + 108, 16);
        sample.section(0, b".text", 0x1000, 0x200, 0x200, 0x6000_0020);
        sample.section(1, b".data", 0x2000, 0x1000, DATA as u32, 0xC000_0040);
        sample
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }
    fn put16(&mut self, at: usize, value: u16) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }
    fn put32(&mut self, at: usize, value: u32) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }
    fn put64(&mut self, at: usize, value: u64) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }
    fn section(
        &mut self,
        index: usize,
        name: &[u8],
        rva: u32,
        raw: u32,
        offset: u32,
        flags: u32,
    ) -> &mut Self {
        let at = TABLE + 40 * index;
        self.put(at, name).put32(at + 8, 0x1000).put32(at + 12, rva);
        self.put32(at + 16, raw).put32(at + 20, offset).put32(at + 36, flags)
    }
    fn directory(&mut self, index: usize, rva: u32, size: u32) -> &mut Self {
        self.put32(OPTIONAL + 112 + 8 * index, rva).put32(OPTIONAL + 116 + 8 * index, size)
    }

    /// Two routines from ntoskrnl.exe (one by ordinal) and one from hal.dll.
    fn with_imports(&mut self) -> &mut Self {
        self.directory(1, 0x2000, 60);
        self.put32(DATA, 0x2100).put32(DATA + 12, 0x2080).put32(DATA + 16, 0x2200);
        self.put32(DATA + 20, 0x2140).put32(DATA + 32, 0x2090).put32(DATA + 36, 0x2240);
        self.put(DATA + 0x80, b"ntoskrnl.exe\0").put(DATA + 0x90, b"HAL.dll\0");
        self.put64(DATA + 0x100, 0x20A0).put64(DATA + 0x108, 1 << 63 | 12);
        self.put64(DATA + 0x140, 0x20C0);
        self.put(DATA + 0xA2, b"IoCreateDevice\0").put(DATA + 0xC2, b"HalGetInterruptVector\0")
    }

    /// One DIR64 relocation, of the word at 0x2300, padded with an ABSOLUTE one.
    fn with_relocation(&mut self) -> &mut Self {
        self.directory(5, 0x2400, 12).put64(DATA + 0x300, BASE + 0x1234);
        self.put32(DATA + 0x400, 0x2000).put32(DATA + 0x404, 12).put16(DATA + 0x408, 0xA300)
    }

    fn laid_out(&self) -> (Layout, Vec<u8>) {
        let layout = Layout::parse(&self.0).unwrap();
        let mut image = vec![0; layout.size as usize];
        layout.lay_out(&self.0, &mut image).unwrap();
        (layout, image)
    }

    fn refusal(&self) -> String {
        Layout::parse(&self.0).unwrap_err().to_string()
    }
}

#[test]
fn sections_lie_where_their_headers_say() {
    let mut sample = Sample::new();
    let (layout, image) = sample.put(0x200, &[0xC3]).put(DATA + 5, &[7]).laid_out();
    assert_eq!(layout.size, 0x3000);
    assert_eq!((image[0x1000], image[0x2005], &image[..2]), (0xC3, 7, &b"MZ"[..]));
    let protections: Vec<_> =
        layout.sections.iter().map(|s| (s.protection.write, s.protection.execute)).collect();
    assert_eq!(protections, [(false, true), (true, false)]);
}

#[test]
fn imports_are_listed_with_their_slots() {
    let (layout, mut image) = Sample::new().with_imports().laid_out();
    let imports = layout.imports(&image).unwrap();
    let listed: Vec<_> = imports.iter().map(|import| (import.to_string(), import.slot)).collect();
    let expected = [
        ("ntoskrnl.exe!IoCreateDevice", 0x2200),
        ("ntoskrnl.exe!#12", 0x2208),
        ("HAL.dll!HalGetInterruptVector", 0x2240),
    ];
    assert_eq!(listed, expected.map(|(name, slot)| (name.to_string(), slot)));
    bind(&mut image, 0x2208, 0x1122_3344_5566_7788);
    assert_eq!(word64(&image[0x2208..0x2210]), Some(0x1122_3344_5566_7788));
}

#[test]
fn a_relocated_word_moves_with_the_image() {
    let (layout, mut image) = Sample::new().with_relocation().laid_out();
    layout.relocate(&mut image, 0xFFFF_F800_0000_0000).unwrap();
    assert_eq!(word64(&image[0x2300..0x2308]), Some(0xFFFF_F800_0000_1234));
}

#[test]
fn relocations_outside_the_image_are_refused() {
    let mut sample = Sample::new();
    sample.with_relocation().put32(DATA + 0x400, 0x2FF8).put16(DATA + 0x408, 0xA001);
    let (layout, mut image) = sample.laid_out();
    let error = layout.relocate(&mut image, 0).unwrap_err().to_string();
    assert_eq!(error, "the relocation directory at 0x2400 relocates a word outside the image");
}

#[test]
fn the_cookie_is_set_where_the_load_configuration_points() {
    let mut sample = Sample::new();
    sample.directory(10, 0x2600, 0x70).put32(DATA + 0x600, 0x70).put64(DATA + 0x600 + 0x58, BASE + 0x2700);
    let (layout, mut image) = sample.laid_out();
    layout.set_cookie(&mut image, BASE, 0xC00C).unwrap();
    assert_eq!(word64(&image[0x2700..0x2708]), Some(0xC00C));
    sample.put64(DATA + 0x600 + 0x58, BASE + 0x1000);
    let (layout, mut image) = sample.laid_out();
    assert!(layout.set_cookie(&mut image, BASE, 0xC00C).is_err(), "a cookie in .text");
}

#[test]
fn what_is_not_an_image_is_named() {
    assert_eq!(Layout::parse(b"").unwrap_err().to_string(), "not a PE image: the file is empty");
    assert_eq!(
        Layout::parse(b"hello, world").unwrap_err().to_string(),
        "not a PE image: no MZ header at its start"
    );
    let mut sample = Sample::new();
    assert_eq!(sample.put16(NT + 4, 0x14C).refusal(), "built for machine 0x014C, not for x64 (0x8664)");
    assert!(Sample::new().put16(OPTIONAL + 68, 3).refusal().contains("NATIVE"));
    assert!(Sample::new().put16(NT + 22, 0x23).refusal().contains("/DYNAMICBASE"));
}

#[test]
fn sections_outside_file_or_image_are_named() {
    let past = Sample::new().put32(TABLE + 40 + 20, 0x10_0000).refusal();
    assert_eq!(past, "section 1 (.data) points past the end of the file");
    let outside = Sample::new().put32(TABLE + 40 + 12, 0x3000).refusal();
    assert_eq!(outside, "section 1 (.data) is empty or lies outside the image");
    let overlap = Sample::new().put32(TABLE + 40 + 12, 0x1000).refusal();
    assert!(overlap.contains("overlaps"), "{overlap}");
    let entry = Sample::new().put32(OPTIONAL + 16, 0x2000).refusal();
    assert!(entry.contains("AddressOfEntryPoint"), "{entry}");
}

fn whole_load(file: &[u8]) {
    if let Ok(layout) = Layout::parse(file) {
        let mut image = vec![0; layout.size as usize];
        if layout.lay_out(file, &mut image).is_ok() {
            let _ = layout.relocate(&mut image, 0xFFFF_8000_0000_0000);
            let _ = layout.imports(&image);
            let _ = layout.set_cookie(&mut image, 0xFFFF_8000_0000_0000, 1);
        }
    }
}

proptest! {
    #[test]
    fn a_truncated_file_never_panics(length in 0usize..0x1400) {
        let mut sample = Sample::new();
        sample.with_imports().with_relocation();
        whole_load(&sample.0[..length]);
    }

    #[test]
    fn corrupted_words_never_panic(words in prop::collection::vec((0usize..0xA00, any::<u32>()), 1..8)) {
        let mut sample = Sample::new();
        sample.with_imports().with_relocation().directory(10, 0x2600, 0x70);
        for (at, value) in words {
            // Keep what makes it a PE at all, so that the rest is reached.
            if !(NT..NT + 8).contains(&at) && at >= 0x40 {
                sample.put32(at, value);
            }
        }
        whole_load(&sample.0);
    }
}

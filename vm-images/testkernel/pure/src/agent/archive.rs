//! Files that come with the machine, in a tar archive as POSIX has it (*pax - portable archive interchange*, "ustar Interchange
//! Format"): blocks of 512 bytes, a header before each file's contents, zeros at the end.
//!
//! Regular files with names of at most 100 bytes; the name is the path in the guest. Anything else is refused, and nothing is read
//! of an archive after what is refused: where the next header lies can be believed no more.

use core::str;

const BLOCK: usize = 512;
/// Where the fields of a header lie.
const NAME: core::ops::Range<usize> = 0..100;
const SIZE: core::ops::Range<usize> = 124..136;
const CHECKSUM: core::ops::Range<usize> = 148..156;
const KIND: usize = 156;
const MAGIC: core::ops::Range<usize> = 257..263;
const PREFIX: core::ops::Range<usize> = 345..500;

/// Why an archive is read no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the archive's entry at byte {at}: {what}")]
pub struct ArchiveError {
    /// Where its header begins.
    pub at: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// The files of an archive, in its order.
#[derive(Clone, Debug)]
pub struct Files<'a> {
    archive: &'a [u8],
    at: usize,
}

impl<'a> Files<'a> {
    /// Of these bytes.
    pub const fn of(archive: &'a [u8]) -> Self {
        Self { archive, at: 0 }
    }

    fn entry(&self) -> Result<Option<(&'a str, &'a [u8])>, &'static str> {
        let rest = &self.archive[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        let (header, rest) = rest.split_at_checked(BLOCK).ok_or("the header is cut off")?;
        if header.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        if header[MAGIC] != *b"ustar\0" {
            return Err("not a ustar header");
        }
        if octal(&header[CHECKSUM]) != Some(checksum(header)) {
            return Err("the header's checksum is wrong");
        }
        if header[KIND] != b'0' || header[PREFIX][0] != 0 {
            return Err("not a regular file with a name of at most 100 bytes");
        }
        let name = header[NAME].split(|&byte| byte == 0).next().unwrap_or_default();
        let name = str::from_utf8(name).map_err(|_| "its name is not UTF-8")?;
        let size = octal(&header[SIZE]).and_then(|size| usize::try_from(size).ok());
        let size = size.ok_or("its size is no octal number")?;
        Ok(Some((name, rest.get(..size).ok_or("the file is cut off")?)))
    }
}

impl<'a> Iterator for Files<'a> {
    type Item = Result<(&'a str, &'a [u8]), ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        match self.entry() {
            Ok(Some((name, contents))) => {
                let end = at + BLOCK + contents.len().next_multiple_of(BLOCK);
                self.at = end.min(self.archive.len());
                Some(Ok((name, contents)))
            }
            Ok(None) => None,
            Err(what) => {
                self.at = self.archive.len();
                Some(Err(ArchiveError { at, what }))
            }
        }
    }
}

/// A number in octal digits, which a space or a zero ends.
fn octal(field: &[u8]) -> Option<u64> {
    let digits = field.split(|&byte| byte == 0 || byte == b' ').find(|digits| !digits.is_empty())?;
    u64::from_str_radix(str::from_utf8(digits).ok()?, 8).ok()
}

/// The sum of the header's bytes, those of the checksum itself taken for spaces.
fn checksum(header: &[u8]) -> u64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    sum(header) - sum(&header[CHECKSUM]) + 8 * u64::from(b' ')
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, contents) in files {
            let mut header = [0; BLOCK];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[SIZE].copy_from_slice(alloc::format!("{:011o}\0", contents.len()).as_bytes());
            header[KIND] = b'0';
            header[MAGIC].copy_from_slice(b"ustar\0");
            let sum = alloc::format!("{:06o}\0 ", checksum(&header));
            header[CHECKSUM].copy_from_slice(sum.as_bytes());
            archive.extend(header);
            archive.extend(*contents);
            archive.resize(archive.len().next_multiple_of(BLOCK), 0);
        }
        archive.resize(archive.len() + 2 * BLOCK, 0);
        archive
    }

    #[test]
    fn files_are_found_in_their_order() {
        let long = [7; 1300];
        let files: [(&str, &[u8]); 4] =
            [(r"C:\squall\a.sys", b"one"), (r"C:\b", b""), (r"C:\c", &[1; 512]), (r"C:\d", &long)];
        let archive = packed(&files);
        let found: Vec<_> = Files::of(&archive).map(Result::unwrap).collect();
        assert_eq!(found, files);
        assert_eq!(Files::of(&[]).count(), 0);
    }

    #[test]
    fn what_is_no_archive_is_refused_where_it_stops_being_one() {
        let archive = packed(&[(r"C:\a", b"one"), (r"C:\b", b"two")]);
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut archive = archive.clone();
            change(&mut archive);
            let mut files = Files::of(&archive);
            assert!(files.next().unwrap().is_ok());
            let error = files.next().unwrap().unwrap_err();
            assert!(files.next().is_none() && error.at == 1024);
            error.what
        };
        assert_eq!(refused(&|a| a[1024] = b'D'), "the header's checksum is wrong");
        assert_eq!(refused(&|a| a[1024 + 257] = b'U'), "not a ustar header");
        assert_eq!(refused(&|a| a.truncate(1500)), "the header is cut off");
        assert_eq!(refused(&|a| a.truncate(1024 + 512 + 2)), "the file is cut off");
    }

    proptest! {
        #[test]
        fn anything_at_all_is_read_to_an_end(archive in prop::collection::vec(any::<u8>(), 0..4000)) {
            prop_assert!(Files::of(&archive).count() <= 8);
        }

        #[test]
        fn a_damaged_archive_is_read_to_an_end(at in 0_usize..2048, byte in any::<u8>()) {
            let mut archive = packed(&[(r"C:\a", &[1; 600]), (r"C:\b", b"two")]);
            let at = at % archive.len();
            archive[at] = byte;
            prop_assert!(Files::of(&archive).count() <= 3);
        }
    }

    #[test]
    fn a_size_beyond_every_bound_is_refused() {
        let mut archive = packed(&[(r"C:\a", b"one")]);
        archive[SIZE].copy_from_slice(b"777777777777");
        let sum = alloc::format!("{:06o}\0 ", checksum(&archive[..BLOCK]));
        archive[CHECKSUM].copy_from_slice(sum.as_bytes());
        assert_eq!(
            Files::of(&archive).collect::<Vec<_>>(),
            vec![Err(ArchiveError { at: 0, what: "the file is cut off" })]
        );
    }
}

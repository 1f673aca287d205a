//! Access control lists: who may and who may not, in an order that counts.
//!
//! A list begins with its revision and its size in bytes, which may be more than its entries take; entries follow one behind the
//! other, each with its kind, its flags and its size.

use alloc::vec::Vec;

use super::sid::Sid;

/// `ACL_REVISION`.
pub const REVISION: u8 = 2;
/// Revisions that there are; 3 is for compound, 4 for entries that name a type of object.
pub const REVISIONS: core::ops::RangeInclusive<u8> = 2..=4;
/// Bytes before the entries.
pub const HEADER: usize = 8;
/// Bytes of an entry before its identifier: kind, flags, size, mask.
pub const ENTRY_HEADER: usize = 8;

/// `ACCESS_ALLOWED_ACE_TYPE`.
pub const ALLOWED: u8 = 0;
/// `ACCESS_DENIED_ACE_TYPE`.
pub const DENIED: u8 = 1;

/// `OBJECT_INHERIT_ACE`.
pub const OBJECT_INHERIT: u8 = 0x01;
/// `CONTAINER_INHERIT_ACE`.
pub const CONTAINER_INHERIT: u8 = 0x02;
/// `NO_PROPAGATE_INHERIT_ACE`.
pub const NO_PROPAGATE: u8 = 0x04;
/// `INHERIT_ONLY_ACE`: does not count for the object that has it.
pub const INHERIT_ONLY: u8 = 0x08;
/// The four of them.
pub const INHERITANCE: u8 = 0x0F;

/// A valid list: every entry lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acl<'a>(&'a [u8]);

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a>(&'a [u8]);

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

impl<'a> Acl<'a> {
    /// The list that `bytes` begin with.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let size = half(bytes, 2).filter(|&size| size >= HEADER)?;
        let list = Self(bytes.get(..size).filter(|list| REVISIONS.contains(&list[0]))?);
        let mut at = HEADER;
        for _ in 0..list.len() {
            let entry = Entry::parse(list.0.get(at..)?)?;
            at += entry.0.len();
        }
        Some(list)
    }

    /// It, as it is stored.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// How many entries there are.
    pub fn len(self) -> usize {
        half(self.0, 4).unwrap_or_default()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Its entries, in order.
    pub fn entries(self) -> impl Iterator<Item = Entry<'a>> {
        let mut rest = &self.0[HEADER..];
        (0..self.len()).map_while(move |_| {
            let entry = Entry::parse(rest)?;
            rest = rest.get(entry.0.len()..)?;
            Some(entry)
        })
    }

    /// Where the free bytes behind the entries begin.
    pub fn first_free(self) -> usize {
        HEADER + self.entries().map(|entry| entry.0.len()).sum::<usize>()
    }
}

impl<'a> Entry<'a> {
    /// The entry that `bytes` begin with: of a known kind it has an identifier of its own.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let size = half(bytes, 2).filter(|size| *size >= 4 && size.is_multiple_of(4))?;
        let entry = Self(bytes.get(..size)?);
        (!entry.is_plain() || entry.sid().is_some()).then_some(entry)
    }

    /// It, as it is stored.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// `ACCESS_ALLOWED_ACE_TYPE` and so on.
    pub fn kind(self) -> u8 {
        self.0[0]
    }

    /// `*_INHERIT_ACE` and so on.
    pub fn flags(self) -> u8 {
        self.0[1]
    }

    /// Of the four kinds that consist of a mask and an identifier: allowed, denied, audit, alarm.
    fn is_plain(self) -> bool {
        self.kind() <= 3
    }

    /// The rights that it is about.
    pub fn mask(self) -> u32 {
        self.0.get(4..8).and_then(|mask| mask.try_into().ok()).map_or(0, u32::from_le_bytes)
    }

    /// Who it is about, where it is of a kind that says so here.
    pub fn sid(self) -> Option<Sid<'a>> {
        self.is_plain().then(|| self.0.get(ENTRY_HEADER..).and_then(Sid::parse)).flatten()
    }
}

/// An entry of one of the plain kinds.
pub fn entry(kind: u8, flags: u8, mask: u32, sid: Sid<'_>) -> Vec<u8> {
    let size = (ENTRY_HEADER + sid.bytes().len()) as u16;
    let header = [kind, flags, size.to_le_bytes()[0], size.to_le_bytes()[1]];
    [&header[..], &mask.to_le_bytes(), sid.bytes()].concat()
}

/// A list of these entries, as short as it can be; none where it would be longer than a list may be.
pub fn list(entries: &[Vec<u8>]) -> Option<Vec<u8>> {
    let body = entries.concat();
    let size = u16::try_from(HEADER + body.len()).ok()?.to_le_bytes();
    let count = (entries.len() as u16).to_le_bytes();
    let header = [REVISION, 0, size[0], size[1], count[0], count[1], 0, 0];
    Some([&header[..], &body].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::security::sid::{ADMINISTRATORS, WORLD};

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let written =
            [entry(DENIED, 0, 2, WORLD.sid()), entry(ALLOWED, INHERIT_ONLY, 7, ADMINISTRATORS.sid())];
        let list = list(&written).unwrap();
        let acl = Acl::parse(&list).unwrap();
        assert_eq!((acl.len(), acl.first_free()), (2, list.len()));
        let read: Vec<_> =
            acl.entries().map(|entry| (entry.kind(), entry.flags(), entry.mask(), entry.sid())).collect();
        assert_eq!(read, [(1, 0, 2, Some(WORLD.sid())), (0, 8, 7, Some(ADMINISTRATORS.sid()))]);
    }

    #[test]
    fn a_list_that_reaches_out_of_itself_is_none() {
        let good = list(&[entry(ALLOWED, 0, 1, WORLD.sid())]).unwrap();
        for (at, value) in [(0, 1), (0, 5), (2, 7), (2, 27), (4, 2), (10, 60), (10, 18), (17, 9)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(Acl::parse(&bad).is_none(), "byte {at} = {value}");
        }
        assert!(Acl::parse(&good[..good.len() - 1]).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..64), size in 0u8..70, count in 0u8..4) {
            let mut bytes = bytes;
            if bytes.len() > 8 {
                bytes[0] = 2;
                bytes[2] = size;
                bytes[3] = 0;
                bytes[4] = count;
                bytes[5] = 0;
            }
            if let Some(acl) = Acl::parse(&bytes) {
                prop_assert_eq!(acl.entries().count(), acl.len());
                prop_assert!(acl.first_free() <= acl.bytes().len());
            }
        }
    }
}

//! Descriptors: an object's owner, group and lists, in the form where one block holds them all.
//!
//! A self-relative descriptor is 20 bytes, among them four offsets to the parts behind it; an absolute one has addresses
//! instead, and only the kernel can follow those. [`Parts`] is what either consists of.

use alloc::vec::Vec;

use super::acl::Acl;
use super::sid::Sid;

/// `SECURITY_DESCRIPTOR_REVISION`.
pub const REVISION: u8 = 1;
/// `SE_OWNER_DEFAULTED`.
pub const OWNER_DEFAULTED: u16 = 0x0001;
/// `SE_GROUP_DEFAULTED`.
pub const GROUP_DEFAULTED: u16 = 0x0002;
/// `SE_DACL_PRESENT`.
pub const DACL_PRESENT: u16 = 0x0004;
/// `SE_DACL_DEFAULTED`.
pub const DACL_DEFAULTED: u16 = 0x0008;
/// `SE_SACL_PRESENT`.
pub const SACL_PRESENT: u16 = 0x0010;
/// `SE_SACL_DEFAULTED`.
pub const SACL_DEFAULTED: u16 = 0x0020;
/// `SE_SELF_RELATIVE`.
pub const SELF_RELATIVE: u16 = 0x8000;
/// Bytes of a self-relative one before its parts.
pub const HEADER: usize = 20;

/// `OWNER_SECURITY_INFORMATION`.
pub const OWNER: u32 = 1;
/// `GROUP_SECURITY_INFORMATION`.
pub const GROUP: u32 = 2;
/// `DACL_SECURITY_INFORMATION`.
pub const DACL: u32 = 4;
/// `SACL_SECURITY_INFORMATION`.
pub const SACL: u32 = 8;

/// What a descriptor consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts<'a> {
    /// `SE_*`.
    pub control: u16,
    /// Whose it is.
    pub owner: Option<Sid<'a>>,
    /// Whose group's.
    pub group: Option<Sid<'a>>,
    /// The system list, which audits.
    pub sacl: Option<Acl<'a>>,
    /// The discretionary list; none, be it said to be present or not, allows everything.
    pub dacl: Option<Acl<'a>>,
}

impl<'a> Parts<'a> {
    /// The parts of the self-relative descriptor that fills `bytes` at most; none where something in it is not what it should be.
    pub fn of_relative(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.get(..HEADER)?;
        let control = u16::from_le_bytes([header[2], header[3]]);
        if header[0] != REVISION || control & SELF_RELATIVE == 0 {
            return None;
        }
        let at = |index: usize| {
            let offset =
                header[4 + 4 * index..8 + 4 * index].try_into().map(u32::from_le_bytes).ok()? as usize;
            if offset == 0 {
                return Some(None);
            }
            let lies_behind = offset >= HEADER && offset.is_multiple_of(4);
            bytes.get(offset..).filter(|_| lies_behind).map(Some)
        };
        let sid = |index| at(index)?.map_or(Some(None), |part| Sid::parse(part).map(Some));
        let acl = |index, present| match at(index)?.filter(|_| control & present != 0) {
            None => Some(None),
            Some(part) => Acl::parse(part).map(Some),
        };
        let (owner, group) = (sid(0)?, sid(1)?);
        Some(Self { control, owner, group, sacl: acl(2, SACL_PRESENT)?, dacl: acl(3, DACL_PRESENT)? })
    }

    /// Whether every part that `*_SECURITY_INFORMATION` names is there: of a list, that it is said to be.
    pub fn has(&self, information: u32) -> bool {
        let there = [
            (OWNER, self.owner.is_some()),
            (GROUP, self.group.is_some()),
            (DACL, self.control & DACL_PRESENT != 0),
            (SACL, self.control & SACL_PRESENT != 0),
        ];
        there.iter().all(|&(bit, there)| information & bit == 0 || there)
    }

    /// Bytes that [`Self::to_relative`] takes.
    pub fn relative_size(&self) -> usize {
        let sids = [self.owner, self.group].into_iter().flatten().map(|sid| sid.bytes().len());
        let acls =
            [self.sacl, self.dacl].into_iter().flatten().map(|acl| acl.bytes().len().next_multiple_of(4));
        HEADER + sids.sum::<usize>() + acls.sum::<usize>()
    }

    /// The self-relative descriptor of these parts.
    pub fn to_relative(&self) -> Vec<u8> {
        let control = (self.control | SELF_RELATIVE).to_le_bytes();
        let mut bytes = [&[REVISION, 0][..], &control, &[0; 16]].concat();
        let parts = [
            (2, self.sacl.map(Acl::bytes)),
            (3, self.dacl.map(Acl::bytes)),
            (0, self.owner.map(Sid::bytes)),
            (1, self.group.map(Sid::bytes)),
        ];
        for (index, part) in parts {
            let Some(part) = part else { continue };
            let offset = (bytes.len() as u32).to_le_bytes();
            bytes[4 + 4 * index..8 + 4 * index].copy_from_slice(&offset);
            bytes.extend_from_slice(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::acl::{ALLOWED, entry, list};
    use super::super::sid::{ADMINISTRATORS, LOCAL_SYSTEM};
    use super::*;

    #[test]
    fn a_descriptor_is_read_as_it_was_written() {
        let dacl = list(&[entry(ALLOWED, 0, 7, ADMINISTRATORS.sid())]).unwrap();
        let parts = Parts {
            control: DACL_PRESENT | SELF_RELATIVE,
            owner: Some(ADMINISTRATORS.sid()),
            group: Some(LOCAL_SYSTEM.sid()),
            sacl: None,
            dacl: Acl::parse(&dacl),
        };
        let bytes = parts.to_relative();
        assert_eq!(bytes.len(), parts.relative_size());
        assert_eq!(Parts::of_relative(&bytes), Some(parts));
        assert!(parts.has(OWNER | GROUP | DACL) && !parts.has(SACL));
        for length in 0..bytes.len() {
            assert_eq!(Parts::of_relative(&bytes[..length]), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(mut bytes in proptest::collection::vec(any::<u8>(), 20..64), at in 0u8..64) {
            bytes[0] = 1;
            bytes[3] = 0x80;
            bytes[4..8].copy_from_slice(&[at, 0, 0, 0]);
            if let Some(parts) = Parts::of_relative(&bytes) {
                let again = parts.to_relative();
                prop_assert_eq!(Parts::of_relative(&again).map(|again| again.dacl), Some(parts.dacl));
            }
        }
    }
}

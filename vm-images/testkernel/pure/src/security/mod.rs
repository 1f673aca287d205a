//! Windows' access control, on plain bytes: security identifiers, access control lists, descriptors, and the decision whether a
//! token may do what it asks for.
//!
//! A *token* says who somebody is: a user, groups, privileges. A *descriptor* belongs to an object and says whose it is (owner,
//! group) and, in its discretionary list (DACL), who may do what with it. The list is read in its order until every right that was
//! asked for is allowed, or the first of them is denied. No list at all allows everything; an empty one nothing.
//!
//! Nothing here trusts the bytes: lengths inside them are checked against what is there.

pub mod access;
pub mod acl;
pub mod descriptor;
pub mod inherit;
pub mod sid;
pub mod token;

pub use acl::Acl;
pub use descriptor::Parts;
pub use sid::Sid;
pub use token::Token;

/// `READ_CONTROL`.
pub const READ_CONTROL: u32 = 0x0002_0000;
/// `WRITE_DAC`.
pub const WRITE_DAC: u32 = 0x0004_0000;
/// `WRITE_OWNER`.
pub const WRITE_OWNER: u32 = 0x0008_0000;
/// `ACCESS_SYSTEM_SECURITY`: the right to read and write the system list (SACL).
pub const SYSTEM_SECURITY: u32 = 0x0100_0000;
/// `MAXIMUM_ALLOWED`: whatever there is.
pub const MAXIMUM_ALLOWED: u32 = 0x0200_0000;
/// `GENERIC_ALL`.
pub const GENERIC_ALL: u32 = 0x1000_0000;
/// `GENERIC_EXECUTE`.
pub const GENERIC_EXECUTE: u32 = 0x2000_0000;
/// `GENERIC_READ`.
pub const GENERIC_READ: u32 = 0x8000_0000;

/// `GENERIC_MAPPING`: what the generic rights mean for one type of object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GenericMapping {
    /// `GENERIC_READ`'s.
    pub read: u32,
    /// `GENERIC_WRITE`'s.
    pub write: u32,
    /// `GENERIC_EXECUTE`'s.
    pub execute: u32,
    /// `GENERIC_ALL`'s.
    pub all: u32,
}

impl GenericMapping {
    /// `mask` with each generic right replaced by what it stands for.
    pub fn map(&self, mask: u32) -> u32 {
        let rights = [(31, self.read), (30, self.write), (29, self.execute), (28, self.all)];
        let stands_for = |(bit, rights): (u32, u32)| if mask >> bit & 1 != 0 { rights } else { 0 };
        rights.into_iter().map(stands_for).fold(mask & 0x0FFF_FFFF, |whole, rights| whole | rights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generic_rights_become_what_they_stand_for() {
        let mapping = GenericMapping { read: 1, write: 2, execute: 4, all: 0xF };
        assert_eq!(mapping.map(0xC001_0000), 0x0001_0003);
        assert_eq!(mapping.map(GENERIC_EXECUTE), 4);
        assert_eq!(mapping.map(GENERIC_ALL | MAXIMUM_ALLOWED), 0x0200_000F);
    }
}

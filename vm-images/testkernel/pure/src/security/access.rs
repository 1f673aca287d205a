//! The decision: may this token do that with an object of this descriptor?
//!
//! Sources: *SeAccessCheck function (wdm.h)*, *How AccessCheck Works*, *Order of ACEs in a DACL*.

use super::acl::{ALLOWED, DENIED, INHERIT_ONLY};
use super::descriptor::Parts;
use super::sid;
use super::token::{SECURITY, TAKE_OWNERSHIP, Token};
use super::{GenericMapping, MAXIMUM_ALLOWED, READ_CONTROL, SYSTEM_SECURITY, WRITE_DAC, WRITE_OWNER};

/// What an owner has by being it.
const OWNERS: u32 = READ_CONTROL | WRITE_DAC;

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The list does not allow it.
    #[error("the list does not allow it")]
    Denied,
    /// It takes a privilege that the token does not hold.
    #[error("it takes a privilege that is not held")]
    NoPrivilege,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The rights, [`MAXIMUM_ALLOWED`] perhaps among them.
    pub desired: u32,
    /// Rights that were granted before, and stay so.
    pub granted: u32,
    /// What generic rights mean.
    pub mapping: GenericMapping,
}

/// The rights that `token` gets.
pub fn check(object: &Parts<'_>, token: &Token, request: &Request) -> Result<u32, Refused> {
    let Request { desired, mut granted, mapping } = *request;
    let maximum = desired & MAXIMUM_ALLOWED != 0;
    let mut wanted = mapping.map(desired & !MAXIMUM_ALLOWED);
    if !maximum && wanted == 0 {
        // Nothing is asked for, and nothing is had: there is nothing to open the object with.
        return if granted == 0 { Err(Refused::Denied) } else { Ok(granted) };
    }
    if wanted & SYSTEM_SECURITY != 0 {
        if !token.holds(SECURITY) {
            return Err(Refused::NoPrivilege);
        }
        granted |= SYSTEM_SECURITY;
    }
    if (maximum || wanted & WRITE_OWNER != 0) && token.holds(TAKE_OWNERSHIP) {
        granted |= WRITE_OWNER;
    }
    let owned = object.owner.is_some_and(|owner| token.is(owner));
    let Some(list) = object.dacl else {
        return Ok(granted | wanted | if maximum { mapping.map(super::GENERIC_ALL) } else { 0 });
    };
    let counts = |flags: u8| flags & INHERIT_ONLY == 0;
    let says_what_owners_may =
        list.entries().any(|entry| counts(entry.flags()) && entry.sid() == Some(sid::OWNER_RIGHTS.sid()));
    if owned && !says_what_owners_may {
        granted |= if maximum { OWNERS } else { wanted & OWNERS };
    }
    wanted &= !granted;
    let (mut allowed, mut denied) = (0, 0);
    for entry in list.entries().filter(|entry| counts(entry.flags())) {
        let is_about = |sid| token.is(sid) || owned && sid == sid::OWNER_RIGHTS.sid();
        if !entry.sid().is_some_and(is_about) {
            continue;
        }
        match entry.kind() {
            ALLOWED => allowed |= entry.mask() & !denied,
            DENIED => denied |= entry.mask() & !allowed,
            _ => {}
        }
    }
    if wanted & !allowed != 0 {
        return Err(Refused::Denied);
    }
    granted |= if maximum { allowed } else { wanted };
    if granted == 0 { Err(Refused::Denied) } else { Ok(granted) }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::super::acl::{Acl, entry, list};
    use super::super::sid::{ADMINISTRATORS, LOCAL_SYSTEM, USERS, WORLD, WellKnown};
    use super::super::token::SYSTEM;
    use super::super::{GENERIC_ALL, GENERIC_READ};
    use super::*;

    const MAPPING: GenericMapping =
        GenericMapping { read: 0x2_0001, write: 0x2_0002, execute: 0x2_0004, all: 0xF_0007 };

    fn asked(owner: &'static WellKnown, entries: Option<&[Vec<u8>]>, desired: u32) -> Result<u32, Refused> {
        let bytes = entries.map(|entries| list(entries).unwrap());
        let dacl = bytes.as_deref().map(|bytes| Acl::parse(bytes).unwrap());
        let parts = Parts { owner: Some(owner.sid()), dacl, ..Parts::default() };
        check(&parts, &SYSTEM, &Request { desired, granted: 0, mapping: MAPPING })
    }

    #[test]
    fn no_list_allows_everything_and_an_empty_one_nothing() {
        assert_eq!(asked(&USERS, None, 5), Ok(5));
        assert_eq!(asked(&USERS, None, GENERIC_READ), Ok(0x2_0001));
        assert_eq!(asked(&USERS, None, MAXIMUM_ALLOWED), Ok(0xF_0007));
        assert_eq!(asked(&USERS, Some(&[]), 1), Err(Refused::Denied));
        assert_eq!(asked(&USERS, Some(&[]), MAXIMUM_ALLOWED), Err(Refused::Denied));
        assert_eq!(asked(&USERS, None, 0), Err(Refused::Denied));
    }

    #[test]
    fn an_owner_may_read_and_change_the_list() {
        assert_eq!(asked(&ADMINISTRATORS, Some(&[]), WRITE_DAC), Ok(WRITE_DAC));
        assert_eq!(asked(&LOCAL_SYSTEM, Some(&[]), MAXIMUM_ALLOWED), Ok(OWNERS));
        assert_eq!(asked(&ADMINISTRATORS, Some(&[]), WRITE_DAC | 1), Err(Refused::Denied));
        let only_read = [entry(ALLOWED, 0, READ_CONTROL, sid::OWNER_RIGHTS.sid())];
        assert_eq!(asked(&ADMINISTRATORS, Some(&only_read), READ_CONTROL), Ok(READ_CONTROL));
        assert_eq!(asked(&ADMINISTRATORS, Some(&only_read), WRITE_DAC), Err(Refused::Denied));
    }

    #[test]
    fn the_first_entry_that_says_something_about_a_right_decides() {
        let deny_first = [entry(DENIED, 0, 2, WORLD.sid()), entry(ALLOWED, 0, 7, LOCAL_SYSTEM.sid())];
        assert_eq!(asked(&USERS, Some(&deny_first), 5), Ok(5));
        assert_eq!(asked(&USERS, Some(&deny_first), 2), Err(Refused::Denied));
        assert_eq!(asked(&USERS, Some(&deny_first), MAXIMUM_ALLOWED), Ok(5));
        let allow_first = [entry(ALLOWED, 0, 7, LOCAL_SYSTEM.sid()), entry(DENIED, 0, 2, WORLD.sid())];
        assert_eq!(asked(&USERS, Some(&allow_first), 2), Ok(2));
        assert_eq!(asked(&USERS, Some(&allow_first), MAXIMUM_ALLOWED), Ok(7));
    }

    #[test]
    fn entries_for_others_and_for_heirs_do_not_count() {
        let others = [entry(ALLOWED, 0, 7, USERS.sid()), entry(ALLOWED, INHERIT_ONLY, 7, WORLD.sid())];
        assert_eq!(asked(&USERS, Some(&others), 1), Err(Refused::Denied));
        // Generic rights of an entry are none of the object's: they are mapped when the list is assigned.
        let generic = [entry(ALLOWED, 0, GENERIC_ALL, WORLD.sid())];
        assert_eq!(asked(&USERS, Some(&generic), 1), Err(Refused::Denied));
    }

    #[test]
    fn the_system_list_takes_a_privilege() {
        assert_eq!(asked(&LOCAL_SYSTEM, None, SYSTEM_SECURITY), Err(Refused::NoPrivilege));
    }

    #[test]
    fn what_was_granted_before_stays() {
        let parts = Parts { dacl: None, ..Parts::default() };
        let request = Request { desired: 0, granted: 0x10, mapping: MAPPING };
        assert_eq!(check(&parts, &SYSTEM, &request), Ok(0x10));
        let request = Request { desired: 1, granted: 0x10, mapping: MAPPING };
        assert_eq!(check(&parts, &SYSTEM, &request), Ok(0x11));
    }
}

//! A new object's descriptor: what its maker says, what its directory hands down, and what the token has for everybody else.
//!
//! Sources: *SeAssignSecurity function (wdm.h)*, *ACE Inheritance Rules*, *DACL for a New Object*.

use alloc::vec::Vec;

use super::acl::{
    self, Acl, CONTAINER_INHERIT, Entry, INHERIT_ONLY, INHERITANCE, NO_PROPAGATE, OBJECT_INHERIT,
};
use super::descriptor::{DACL_DEFAULTED, DACL_PRESENT, Parts, SACL_PRESENT};
use super::sid::{self, Sid};
use super::token::{SECURITY, Token};
use super::{GENERIC_ALL, GENERIC_EXECUTE, GENERIC_READ, GenericMapping, READ_CONTROL};

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAssigned {
    /// The owner that was named may not be one.
    #[error("the owner may not be assigned")]
    InvalidOwner,
    /// A system list takes a privilege that is not held.
    #[error("a system list takes a privilege")]
    NoPrivilege,
    /// A list would be longer than lists may be.
    #[error("the list is too long")]
    TooLong,
}

/// Somebody makes an object.
#[derive(Clone, Copy, Debug)]
pub struct Creation<'a> {
    /// Of what it is made in.
    pub parent: Option<Parts<'a>>,
    /// What its maker said.
    pub explicit: Option<Parts<'a>>,
    /// Whether other things are going to be made in it.
    pub is_container: bool,
    /// Who makes it.
    pub token: &'a Token,
    /// What generic rights mean for it.
    pub mapping: GenericMapping,
}

impl Creation<'_> {
    /// The new object's descriptor, self-relative.
    pub fn descriptor(&self) -> Result<Vec<u8>, NotAssigned> {
        let said = self.explicit.unwrap_or_default();
        let owner = said.owner.unwrap_or(self.token.owner.sid());
        if !self.token.is(owner) {
            return Err(NotAssigned::InvalidOwner);
        }
        let group = said.group.unwrap_or(self.token.primary_group.sid());
        let who = Who { owner, group };
        let says_list = said.control & DACL_PRESENT != 0;
        let insists = says_list && said.control & DACL_DEFAULTED == 0;
        let handed_down = || self.parent.and_then(|parent| parent.dacl).map(|list| self.inherited(list, who));
        let mut control = DACL_PRESENT;
        let entries = match handed_down().filter(|entries| !insists && !entries.is_empty()) {
            Some(entries) => Some(entries),
            None if says_list => said
                .dacl
                .map(|list| list.entries().map(|entry| self.mapped(entry, entry.flags(), who)).collect()),
            None => {
                control |= DACL_DEFAULTED;
                Some(self.default_entries())
            }
        };
        let sacl = said.sacl.filter(|_| said.control & SACL_PRESENT != 0);
        if sacl.is_some() {
            if !self.token.holds(SECURITY) {
                return Err(NotAssigned::NoPrivilege);
            }
            control |= SACL_PRESENT;
        }
        let list = entries
            .map(|entries: Vec<Vec<u8>>| acl::list(&entries).ok_or(NotAssigned::TooLong))
            .transpose()?;
        let dacl = list.as_deref().and_then(Acl::parse);
        Ok(Parts { control, owner: Some(owner), group: Some(group), sacl, dacl }.to_relative())
    }

    /// What the token has for objects of which nobody says anything.
    fn default_entries(&self) -> Vec<Vec<u8>> {
        let readers = GENERIC_READ | GENERIC_EXECUTE | READ_CONTROL;
        [(sid::LOCAL_SYSTEM.sid(), GENERIC_ALL), (sid::ADMINISTRATORS.sid(), readers)]
            .map(|(sid, mask)| acl::entry(acl::ALLOWED, 0, self.mapping.map(mask), sid))
            .into()
    }

    /// An entry as it counts for this object: its rights are the object's own, and whoever made it is named.
    fn mapped(&self, entry: Entry<'_>, flags: u8, who: Who<'_>) -> Vec<u8> {
        match entry.sid() {
            Some(_) if flags & INHERIT_ONLY != 0 => entry.bytes().to_vec(),
            Some(sid) => {
                acl::entry(entry.kind(), flags, self.mapping.map(entry.mask()), who.is_meant_by(sid))
            }
            None => entry.bytes().to_vec(),
        }
    }

    fn inherited(&self, list: Acl<'_>, who: Who<'_>) -> Vec<Vec<u8>> {
        let mut entries = Vec::new();
        for entry in list.entries() {
            let (Some(sid), flags) = (entry.sid(), entry.flags()) else { continue };
            let counts = flags & if self.is_container { CONTAINER_INHERIT } else { OBJECT_INHERIT } != 0;
            let propagates = self.is_container
                && flags & NO_PROPAGATE == 0
                && flags & (CONTAINER_INHERIT | OBJECT_INHERIT) != 0;
            let own = flags & !INHERITANCE;
            let further = flags & !INHERIT_ONLY;
            let changes = who.is_meant_by(sid) != sid || self.mapping.map(entry.mask()) != entry.mask();
            match (counts, propagates) {
                // What heirs are to get is not what counts here: two entries.
                (true, true) if changes => {
                    entries.push(self.mapped(entry, own, who));
                    entries.push(acl::entry(entry.kind(), further | INHERIT_ONLY, entry.mask(), sid));
                }
                (true, true) => entries.push(self.mapped(entry, further, who)),
                (true, false) => entries.push(self.mapped(entry, own, who)),
                (false, true) => {
                    entries.push(acl::entry(entry.kind(), further | INHERIT_ONLY, entry.mask(), sid))
                }
                (false, false) => {}
            }
        }
        entries
    }
}

/// Who made the object.
#[derive(Clone, Copy)]
struct Who<'a> {
    owner: Sid<'a>,
    group: Sid<'a>,
}

impl<'a> Who<'a> {
    fn is_meant_by(self, sid: Sid<'a>) -> Sid<'a> {
        match sid {
            sid if sid == sid::CREATOR_OWNER.sid() => self.owner,
            sid if sid == sid::CREATOR_GROUP.sid() => self.group,
            sid => sid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::acl::{ALLOWED, entry, list};
    use super::super::descriptor::SELF_RELATIVE;
    use super::super::sid::{ADMINISTRATORS, CREATOR_OWNER, LOCAL_SYSTEM, USERS, WORLD};
    use super::super::token::SYSTEM;
    use super::*;

    const MAPPING: GenericMapping = GenericMapping { read: 1, write: 2, execute: 4, all: 7 };

    fn creation<'a>(
        parent: Option<Parts<'a>>,
        explicit: Option<Parts<'a>>,
        is_container: bool,
    ) -> Creation<'a> {
        Creation { parent, explicit, is_container, token: &SYSTEM, mapping: MAPPING }
    }

    fn parts_with(dacl: &[u8]) -> Parts<'_> {
        Parts { control: DACL_PRESENT, dacl: Acl::parse(dacl), ..Parts::default() }
    }

    type Row = (u8, u32, alloc::string::String);

    fn rows(bytes: &[u8]) -> Vec<Row> {
        use alloc::string::ToString;
        let list = Parts::of_relative(bytes).unwrap().dacl.unwrap();
        list.entries().map(|entry| (entry.flags(), entry.mask(), entry.sid().unwrap().to_string())).collect()
    }

    #[test]
    fn without_a_word_said_it_is_the_tokens() {
        let made = creation(None, None, false).descriptor().unwrap();
        let parts = Parts::of_relative(&made).unwrap();
        assert_eq!(parts.control, DACL_PRESENT | DACL_DEFAULTED | SELF_RELATIVE);
        assert_eq!((parts.owner, parts.group), (Some(ADMINISTRATORS.sid()), Some(LOCAL_SYSTEM.sid())));
        assert_eq!(rows(&made), [(0, 7, "S-1-5-18".into()), (0, READ_CONTROL | 5, "S-1-5-32-544".into())]);
    }

    #[test]
    fn what_is_said_counts_with_its_generic_rights_mapped() {
        let dacl = list(&[entry(ALLOWED, 0, GENERIC_READ, WORLD.sid())]).unwrap();
        let made = creation(None, Some(parts_with(&dacl)), false).descriptor().unwrap();
        assert_eq!(rows(&made), [(0, 1, "S-1-1-0".into())]);
        let nothing = Parts { control: DACL_PRESENT, ..Parts::default() };
        let made = creation(None, Some(nothing), false).descriptor().unwrap();
        let parts = Parts::of_relative(&made).unwrap();
        assert!(parts.dacl.is_none() && parts.control & DACL_PRESENT != 0);
    }

    #[test]
    fn a_directory_hands_down_what_it_says_it_does() {
        let entries = [
            entry(ALLOWED, 0, 7, WORLD.sid()),
            entry(ALLOWED, OBJECT_INHERIT | INHERIT_ONLY, 2, USERS.sid()),
            entry(ALLOWED, CONTAINER_INHERIT | INHERIT_ONLY, GENERIC_ALL, CREATOR_OWNER.sid()),
        ];
        let dacl = list(&entries).unwrap();
        let made = creation(Some(parts_with(&dacl)), None, false).descriptor().unwrap();
        assert_eq!(rows(&made), [(0, 2, "S-1-5-32-545".into())]);
        let made = creation(Some(parts_with(&dacl)), None, true).descriptor().unwrap();
        let creator = (CONTAINER_INHERIT | INHERIT_ONLY, GENERIC_ALL, "S-1-3-0".into());
        let object = (OBJECT_INHERIT | INHERIT_ONLY, 2, "S-1-5-32-545".into());
        assert_eq!(rows(&made), [object, (0, 7, "S-1-5-32-544".into()), creator]);
    }

    #[test]
    fn not_everybody_may_own_it_or_audit_it() {
        let foreign = Parts { owner: Some(USERS.sid()), ..Parts::default() };
        assert_eq!(creation(None, Some(foreign), false).descriptor(), Err(NotAssigned::InvalidOwner));
        let sacl = list(&[]).unwrap();
        let audited = Parts { control: SACL_PRESENT, sacl: Acl::parse(&sacl), ..Parts::default() };
        assert_eq!(creation(None, Some(audited), false).descriptor(), Err(NotAssigned::NoPrivilege));
    }
}

//! Tokens: who somebody is, and which privileges they have.

use super::sid::{self, Sid, WellKnown};

/// `SE_GROUP_MANDATORY | SE_GROUP_ENABLED_BY_DEFAULT | SE_GROUP_ENABLED`.
const MANDATORY: u32 = 0x7;
/// `SE_GROUP_ENABLED_BY_DEFAULT | SE_GROUP_ENABLED | SE_GROUP_OWNER`.
const OWNER: u32 = 0xE;
/// `SE_GROUP_ENABLED`.
const GROUP_ENABLED: u32 = 0x4;
/// `SE_PRIVILEGE_ENABLED`.
pub const ENABLED: u32 = 0x2;
/// `SE_PRIVILEGE_ENABLED_BY_DEFAULT | SE_PRIVILEGE_ENABLED`.
const ON: u32 = 0x3;
/// `SE_SECURITY_PRIVILEGE`.
pub const SECURITY: u64 = 8;
/// `SE_TAKE_OWNERSHIP_PRIVILEGE`.
pub const TAKE_OWNERSHIP: u64 = 9;

/// Somebody.
#[derive(Debug)]
pub struct Token {
    /// Who.
    pub user: &'static WellKnown,
    /// What they belong to, each with `SE_GROUP_*`.
    pub groups: &'static [(&'static WellKnown, u32)],
    /// Whose what they make is.
    pub owner: &'static WellKnown,
    /// And the group's.
    pub primary_group: &'static WellKnown,
    /// Privileges by number, each with `SE_PRIVILEGE_*`.
    pub privileges: &'static [(u64, u32)],
}

impl Token {
    /// Whether they are `sid`, or belong to it.
    pub fn is(&self, sid: Sid<'_>) -> bool {
        let group = |&&(group, attributes): &&(&WellKnown, u32)| {
            group.sid() == sid && attributes & GROUP_ENABLED != 0
        };
        self.user.sid() == sid || self.groups.iter().find(group).is_some()
    }

    /// Whether they have a privilege, and it is on.
    pub fn holds(&self, privilege: u64) -> bool {
        self.privileges.iter().any(|&(number, attributes)| number == privilege && attributes & ENABLED != 0)
    }
}

/// The system's own, as Windows makes it: every privilege there is, and on are those that can do no harm by accident.
pub static SYSTEM: Token = Token {
    user: &sid::LOCAL_SYSTEM,
    groups: &[
        (&sid::ADMINISTRATORS, OWNER),
        (&sid::WORLD, MANDATORY),
        (&sid::AUTHENTICATED_USERS, MANDATORY),
    ],
    owner: &sid::ADMINISTRATORS,
    primary_group: &sid::LOCAL_SYSTEM,
    privileges: &[
        (2, 0),  // SeCreateToken
        (3, 0),  // SeAssignPrimaryToken
        (4, ON), // SeLockMemory
        (5, 0),  // SeIncreaseQuota
        (7, ON), // SeTcb
        (SECURITY, 0),
        (TAKE_OWNERSHIP, 0),
        (10, 0),  // SeLoadDriver
        (11, ON), // SeSystemProfile
        (12, 0),  // SeSystemtime
        (13, ON), // SeProfileSingleProcess
        (14, ON), // SeIncreaseBasePriority
        (15, ON), // SeCreatePagefile
        (16, ON), // SeCreatePermanent
        (17, 0),  // SeBackup
        (18, 0),  // SeRestore
        (19, 0),  // SeShutdown
        (20, ON), // SeDebug
        (21, ON), // SeAudit
        (22, 0),  // SeSystemEnvironment
        (23, ON), // SeChangeNotify
        (25, 0),  // SeUndock
        (28, 0),  // SeManageVolume
        (29, ON), // SeImpersonate
        (30, ON), // SeCreateGlobal
        (31, 0),  // SeTrustedCredManAccess
        (32, 0),  // SeRelabel
        (33, ON), // SeIncreaseWorkingSet
        (34, ON), // SeTimeZone
        (35, ON), // SeCreateSymbolicLink
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_an_administrator_and_no_user() {
        assert!(SYSTEM.is(sid::LOCAL_SYSTEM.sid()) && SYSTEM.is(sid::ADMINISTRATORS.sid()));
        assert!(SYSTEM.is(sid::WORLD.sid()) && !SYSTEM.is(sid::USERS.sid()));
        assert!(SYSTEM.holds(7) && !SYSTEM.holds(SECURITY) && !SYSTEM.holds(99));
    }
}

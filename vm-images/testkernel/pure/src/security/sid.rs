//! Security identifiers: `S-1-5-18`, who somebody is.
//!
//! Revision, number of subauthorities, six bytes of authority (most significant first), then the subauthorities, four bytes each.

use core::fmt;

/// The most subauthorities.
pub const MAX_SUBAUTHORITIES: u8 = 15;
const REVISION: u8 = 1;
/// Bytes before the subauthorities.
pub const HEADER: usize = 8;

/// A valid identifier.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sid<'a>(&'a [u8]);

impl<'a> Sid<'a> {
    /// The identifier that `bytes` begin with.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let &[REVISION, count @ 0..=MAX_SUBAUTHORITIES, ..] = bytes else { return None };
        bytes.get(..HEADER + 4 * usize::from(count)).map(Self)
    }

    /// It, as it is stored.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Its subauthorities, in order.
    pub fn subauthorities(self) -> impl Iterator<Item = u32> + 'a {
        self.0[HEADER..].chunks_exact(4).filter_map(|bytes| bytes.try_into().ok().map(u32::from_le_bytes))
    }

    fn authority(self) -> u64 {
        self.0[2..HEADER].iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }
}

impl fmt::Display for Sid<'_> {
    /// `S-1-5-32-544`; an authority of more than 32 bits is written in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.authority();
        if authority >> 32 == 0 {
            write!(f, "S-1-{authority}")?;
        } else {
            write!(f, "S-1-0x{authority:012x}")?;
        }
        self.subauthorities().try_for_each(|number| write!(f, "-{number}"))
    }
}

impl fmt::Debug for Sid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Storage for an identifier of at most two subauthorities, aligned as drivers expect it.
#[derive(Debug)]
#[repr(C, align(4))]
pub struct WellKnown([u8; HEADER + 8]);

impl WellKnown {
    const fn new(authority: u8, subauthorities: &[u32]) -> Self {
        let mut bytes = [0; HEADER + 8];
        bytes[0] = REVISION;
        bytes[1] = subauthorities.len() as u8;
        bytes[7] = authority;
        let mut index = 0;
        while index < subauthorities.len() {
            let number = subauthorities[index].to_le_bytes();
            let mut byte = 0;
            while byte < 4 {
                bytes[HEADER + 4 * index + byte] = number[byte];
                byte += 1;
            }
            index += 1;
        }
        Self(bytes)
    }

    /// The identifier.
    pub fn sid(&self) -> Sid<'_> {
        Sid(&self.0[..HEADER + 4 * usize::from(self.0[1])])
    }
}

macro_rules! well_known {
    ($($(#[$meta:meta])* $name:ident = $authority:literal: $($subauthority:literal)*;)*) => { $(
        $(#[$meta])*
        pub static $name: WellKnown = WellKnown::new($authority, &[$($subauthority),*]);
    )* };
}

well_known! {
    /// Nobody.
    NULL = 0: 0;
    /// Everyone.
    WORLD = 1: 0;
    /// Who is at the machine.
    LOCAL = 2: 0;
    /// In an entry that is inherited: whoever makes the object.
    CREATOR_OWNER = 3: 0;
    /// Likewise their primary group.
    CREATOR_GROUP = 3: 1;
    /// In a list: whoever owns the object, instead of what owners have by themselves.
    OWNER_RIGHTS = 3: 4;
    /// The authority itself.
    NT_AUTHORITY = 5:;
    /// Over a modem.
    DIALUP = 5: 1;
    /// Over the network.
    NETWORK = 5: 2;
    /// A batch job.
    BATCH = 5: 3;
    /// At the console.
    INTERACTIVE = 5: 4;
    /// Nobody who gave a name.
    ANONYMOUS = 5: 7;
    /// Whoever gave one.
    AUTHENTICATED_USERS = 5: 11;
    /// Restricted code.
    RESTRICTED = 5: 12;
    /// The web server's account.
    IUSER = 5: 17;
    /// The system.
    LOCAL_SYSTEM = 5: 18;
    /// Services with few rights.
    LOCAL_SERVICE = 5: 19;
    /// The same, on the network.
    NETWORK_SERVICE = 5: 20;
    /// BUILTIN\Administrators.
    ADMINISTRATORS = 5: 32 544;
    /// BUILTIN\Users.
    USERS = 5: 32 545;
    /// BUILTIN\Guests.
    GUESTS = 5: 32 546;
    /// BUILTIN\Power Users.
    POWER_USERS = 5: 32 547;
    /// BUILTIN\Account Operators.
    ACCOUNT_OPERATORS = 5: 32 548;
    /// BUILTIN\Server Operators.
    SYSTEM_OPERATORS = 5: 32 549;
    /// BUILTIN\Print Operators.
    PRINT_OPERATORS = 5: 32 550;
    /// BUILTIN\Backup Operators.
    BACKUP_OPERATORS = 5: 32 551;
    /// Untrusted, as a mandatory label.
    UNTRUSTED_LABEL = 16: 0;
    /// Low.
    LOW_LABEL = 16: 4096;
    /// Medium.
    MEDIUM_LABEL = 16: 8192;
    /// High.
    HIGH_LABEL = 16: 12288;
    /// The system's.
    SYSTEM_LABEL = 16: 16384;
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn identifiers_are_written_as_everybody_writes_them() {
        assert_eq!(LOCAL_SYSTEM.sid().to_string(), "S-1-5-18");
        assert_eq!(ADMINISTRATORS.sid().to_string(), "S-1-5-32-544");
        assert_eq!(NT_AUTHORITY.sid().to_string(), "S-1-5");
        let large = [1, 1, 0, 1, 0, 0, 0, 2, 7, 0, 0, 0];
        assert_eq!(Sid::parse(&large).unwrap().to_string(), "S-1-0x000100000002-7");
    }

    #[test]
    fn what_is_none_is_not_parsed() {
        assert!(Sid::parse(&[]).is_none());
        assert!(Sid::parse(&[2, 0, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(Sid::parse(&[1, 16, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(Sid::parse(&[1, 1, 0, 0, 0, 0, 0, 5, 1, 2, 3]).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(0u8..=16, 0..80)) {
            if let Some(sid) = Sid::parse(&bytes) {
                prop_assert_eq!(sid.bytes().len(), 8 + 4 * usize::from(bytes[1]));
                prop_assert!(sid.to_string().starts_with("S-1-"));
            }
        }
    }
}

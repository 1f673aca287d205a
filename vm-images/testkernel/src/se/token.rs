//! The token: the system's, which every thread has.
//!
//! An object that drivers refer to, hand back and ask about; what is in it is [`SYSTEM`].

use core::arch::naked_asm;

use alloc::vec::Vec;

use squall_testkernel_pure::pool::Terms;
use squall_testkernel_pure::security::sid::{self, Sid};
use squall_testkernel_pure::security::token::{SYSTEM, Token};

use crate::ex::pool;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, FALSE, NTSTATUS, PVOID, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_INFO_CLASS, STATUS_SUCCESS,
};
use crate::ob;
use crate::ob::types::Kind;
use crate::selftest::{check, kernel_test};

/// Something that is not null and that nobody looks into.
static OBJECT: [u64; 64] = [0; 64];
/// `SYSTEM_LUID`: the system's logon session.
const SYSTEM_SESSION: u64 = 0x3E7;
/// `TokenPrimary`.
const PRIMARY: u32 = 1;
/// `SecurityAnonymous`, which a primary token is said to have.
const ANONYMOUS: u32 = 0;

/// The system's token.
pub fn primary() -> PVOID {
    (&raw const OBJECT).cast_mut().cast()
}

/// What is in a token.
pub fn contents(_token: PVOID) -> &'static Token {
    &SYSTEM
}

/// Makes it an object, for ever.
pub fn init() {
    ob::insert(primary().expose_provenance(), Kind::Token, |_| {});
}

/// Answers about a token: bytes, among them addresses of other bytes of the same answer.
#[derive(Default)]
struct Answer {
    bytes: Vec<u8>,
    /// Where an address belongs, and what it is the address of.
    addresses: Vec<(usize, Sid<'static>)>,
}

impl Answer {
    fn number(&mut self, number: u32) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    /// The address of an identifier, which goes behind everything else.
    fn sid(&mut self, sid: Sid<'static>) {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.addresses.push((self.bytes.len(), sid));
        self.bytes.extend_from_slice(&[0; 8]);
    }

    /// `SID_AND_ATTRIBUTES`.
    fn sid_and_attributes(&mut self, sid: Sid<'static>, attributes: u32) {
        self.sid(sid);
        self.number(attributes);
        self.number(0);
    }

    /// In memory of the pool's that counts as the caller's.
    fn place(self, caller: usize) -> Option<PVOID> {
        let Self { mut bytes, addresses } = self;
        let tail: usize = addresses.iter().map(|(_, sid)| sid.bytes().len()).sum();
        let terms = Terms {
            size: bytes.len() + tail,
            tag: u32::from_le_bytes(*b"SeTi"),
            paged: true,
            caller,
            ..Terms::default()
        };
        let block = pool::allocate(terms, false)?;
        for (at, sid) in addresses {
            let address = block.addr().get() + bytes.len();
            bytes[at..at + 8].copy_from_slice(&address.to_le_bytes());
            bytes.extend_from_slice(sid.bytes());
        }
        // SAFETY: the block is as large as all of it together.
        unsafe { bytes.as_ptr().copy_to_nonoverlapping(block.as_ptr(), bytes.len()) };
        Some(block.as_ptr().cast())
    }
}

/// # Safety
/// As for SeQueryInformationToken.
unsafe extern "win64" fn query(token: PVOID, class: u32, to: *mut PVOID, caller: usize) -> NTSTATUS {
    let token = contents(token);
    let mut answer = Answer::default();
    match class {
        // TokenUser
        1 => answer.sid_and_attributes(token.user.sid(), 0),
        // TokenGroups
        2 => {
            answer.number(token.groups.len() as u32);
            token
                .groups
                .iter()
                .for_each(|(group, attributes)| answer.sid_and_attributes(group.sid(), *attributes));
        }
        // TokenPrivileges
        3 => {
            answer.number(token.privileges.len() as u32);
            for &(privilege, attributes) in token.privileges {
                answer.bytes.extend_from_slice(&privilege.to_le_bytes());
                answer.number(attributes);
            }
        }
        // TokenOwner
        4 => answer.sid(token.owner.sid()),
        // TokenPrimaryGroup
        5 => answer.sid(token.primary_group.sid()),
        // TokenType
        8 => answer.number(PRIMARY),
        // TokenIntegrityLevel: SE_GROUP_INTEGRITY | SE_GROUP_INTEGRITY_ENABLED
        25 => answer.sid_and_attributes(sid::SYSTEM_LABEL.sid(), 0x60),
        _ => return STATUS_INVALID_INFO_CLASS,
    }
    match answer.place(caller) {
        Some(block) => {
            // SAFETY: the caller gives storage for the address.
            unsafe { to.write(block) };
            STATUS_SUCCESS
        }
        None => STATUS_INSUFFICIENT_RESOURCES,
    }
}

export! {
    /// *PsReferencePrimaryToken function (ntifs.h)*: the process's token, with one more reference.
    pub unsafe extern "win64" fn PsReferencePrimaryToken(_process: PVOID) -> PVOID {
        ob::reference(primary().addr());
        primary()
    }

    /// *PsDereferencePrimaryToken function (ntifs.h)*.
    pub unsafe extern "win64" fn PsDereferencePrimaryToken(token: PVOID) {
        ob::dereference(token.addr());
    }

    /// *SeQueryInformationToken function (ntifs.h)*: in memory that the caller frees with ExFreePool.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn SeQueryInformationToken(token: PVOID, class: u32, to: *mut PVOID) -> NTSTATUS {
        naked_asm!("mov r9, [rsp]", "jmp {}", sym query)
    }

    /// *SeQueryAuthenticationIdToken function (ntifs.h)*: the logon session: the system's.
    pub unsafe extern "win64" fn SeQueryAuthenticationIdToken(_token: PVOID, session: *mut u64) -> NTSTATUS {
        // SAFETY: the caller's storage, aligned as 32-bit numbers are.
        unsafe { session.write_unaligned(SYSTEM_SESSION) };
        STATUS_SUCCESS
    }

    /// *SeQuerySessionIdToken function (ntifs.h)*: the terminal session: 0.
    pub unsafe extern "win64" fn SeQuerySessionIdToken(_token: PVOID, session: *mut u32) -> NTSTATUS {
        // SAFETY: the caller's storage.
        unsafe { session.write(0) };
        STATUS_SUCCESS
    }

    /// *SeTokenIsAdmin function (ntifs.h)*: whether administrators are among its groups.
    pub unsafe extern "win64" fn SeTokenIsAdmin(token: PVOID) -> BOOLEAN {
        contents(token).is(sid::ADMINISTRATORS.sid()).into()
    }

    /// *SeTokenIsRestricted function (ntifs.h)*: none is.
    pub unsafe extern "win64" fn SeTokenIsRestricted(_token: PVOID) -> BOOLEAN {
        FALSE
    }

    /// *SeTokenType function (ntifs.h)*: TokenPrimary.
    pub unsafe extern "win64" fn SeTokenType(_token: PVOID) -> u32 {
        PRIMARY
    }

    /// *SeTokenImpersonationLevel*: of a token that impersonates nobody.
    pub unsafe extern "win64" fn SeTokenImpersonationLevel(_token: PVOID) -> u32 {
        ANONYMOUS
    }
}

kernel_test! {
    /// *SeQueryInformationToken function (ntifs.h)*.
    fn a_token_tells_its_user_in_memory_of_the_pool() {
        let mut user = core::ptr::null_mut();
        // SAFETY: the answer is read as what the class says, and freed.
        unsafe {
            check!(SeQueryInformationToken(primary(), 1, &raw mut user) == STATUS_SUCCESS);
            let named = crate::rtl::security::sid_at(user.cast::<*const u8>().read());
            check!(named == Some(sid::LOCAL_SYSTEM.sid()));
            pool::free(user.addr(), 0);
            check!(SeQueryInformationToken(primary(), 99, &raw mut user) == STATUS_INVALID_INFO_CLASS);
        }
    }
}

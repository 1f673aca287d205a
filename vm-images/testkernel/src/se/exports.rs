//! `SeExports`: the numbers of the privileges and the well-known identifiers, for drivers to take from here.

use core::sync::atomic::AtomicPtr;

use squall_testkernel_pure::security::sid::{self, WellKnown};

use crate::ldr::export::export_data;

/// One field of `SE_EXPORTS`; each takes eight bytes.
#[derive(Clone, Copy)]
#[repr(C)]
union Field {
    privilege: u64,
    sid: *const WellKnown,
}

/// `SE_EXPORTS`.
#[repr(C)]
struct Table([Field; FIELDS]);

const FIELDS: usize = 65;

// SAFETY: numbers, and addresses of statics; nobody writes to it.
unsafe impl Sync for Table {}

const fn privilege(privilege: u64) -> Field {
    Field { privilege }
}

const fn known(sid: &'static WellKnown) -> Field {
    Field { sid }
}

/// In the order of the header's structure.
static TABLE: Table = Table([
    privilege(2),
    privilege(3),
    privilege(4),
    privilege(5),
    // SeUnsolicitedInputPrivilege, which is SeMachineAccountPrivilege's number.
    privilege(6),
    privilege(7),
    privilege(8),
    privilege(9),
    privilege(10),
    privilege(15),
    privilege(14),
    privilege(11),
    privilege(12),
    privilege(13),
    privilege(16),
    privilege(17),
    privilege(18),
    privilege(19),
    privilege(20),
    privilege(21),
    privilege(22),
    privilege(23),
    privilege(24),
    known(&sid::NULL),
    known(&sid::WORLD),
    known(&sid::LOCAL),
    known(&sid::CREATOR_OWNER),
    known(&sid::CREATOR_GROUP),
    known(&sid::NT_AUTHORITY),
    known(&sid::DIALUP),
    known(&sid::NETWORK),
    known(&sid::BATCH),
    known(&sid::INTERACTIVE),
    known(&sid::LOCAL_SYSTEM),
    known(&sid::ADMINISTRATORS),
    known(&sid::USERS),
    known(&sid::GUESTS),
    known(&sid::POWER_USERS),
    known(&sid::ACCOUNT_OPERATORS),
    known(&sid::SYSTEM_OPERATORS),
    known(&sid::PRINT_OPERATORS),
    known(&sid::BACKUP_OPERATORS),
    known(&sid::AUTHENTICATED_USERS),
    known(&sid::RESTRICTED),
    known(&sid::ANONYMOUS),
    privilege(25),
    privilege(26),
    privilege(27),
    known(&sid::LOCAL_SERVICE),
    known(&sid::NETWORK_SERVICE),
    privilege(28),
    privilege(29),
    privilege(30),
    privilege(31),
    privilege(32),
    privilege(33),
    privilege(34),
    privilege(35),
    known(&sid::IUSER),
    known(&sid::UNTRUSTED_LABEL),
    known(&sid::LOW_LABEL),
    known(&sid::MEDIUM_LABEL),
    known(&sid::HIGH_LABEL),
    known(&sid::SYSTEM_LABEL),
    known(&sid::OWNER_RIGHTS),
]);

/// What drivers import leads to the table: `PSE_EXPORTS`.
static EXPORTS: AtomicPtr<Table> = AtomicPtr::new((&raw const TABLE).cast_mut());

export_data! {
    SeExports => EXPORTS;
}

//! Access control lists, made and changed in place.

use squall_testkernel_pure::security::acl::{self, ALLOWED, Acl, ENTRY_HEADER, Entry, HEADER, REVISIONS};

use super::{acl_at, sid_at};
use crate::ldr::export::export;
use crate::nt::{
    NTSTATUS, PVOID, STATUS_ALLOTTED_SPACE_EXCEEDED, STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_ACL,
    STATUS_INVALID_PARAMETER, STATUS_INVALID_SID, STATUS_REVISION_MISMATCH, STATUS_SUCCESS,
};

/// The flags of an entry that say who inherits it, and that it was inherited itself.
const VALID_FLAGS: u32 = 0x1F;

/// Where entry `index` begins; where the next would, for one more than there are.
fn offset_of(list: Acl<'_>, index: usize) -> usize {
    HEADER + list.entries().take(index).map(|entry| entry.bytes().len()).sum::<usize>()
}

/// Puts entries in front of that number `index`.
///
/// # Safety
/// `at` must be the address of `list`, whose memory is as large as it says and free to be written.
unsafe fn insert(at: *mut u8, list: Acl<'_>, index: usize, count: usize, entries: &[u8], revision: u8) {
    let (start, end) = (offset_of(list, index), list.first_free());
    let number = list.len() + count;
    // SAFETY: the caller's contract; whoever calls has made sure that there is room. Nothing of `list` is looked at again.
    unsafe {
        at.add(start).copy_to(at.add(start + entries.len()), end - start);
        entries.as_ptr().copy_to_nonoverlapping(at.add(start), entries.len());
        at.write(revision);
        at.add(4).cast::<u16>().write_unaligned(number as u16);
    }
}

/// # Safety
/// As for RtlAddAccessAllowedAceEx.
unsafe fn add(at: *mut u8, revision: u32, flags: u32, mask: u32, sid: *const u8) -> NTSTATUS {
    // SAFETY: the caller's contract.
    unsafe {
        let Some(sid) = sid_at(sid) else { return STATUS_INVALID_SID };
        let Some(list) = acl_at(at) else { return STATUS_INVALID_ACL };
        let Some(revision) = u8::try_from(revision).ok().filter(|revision| revision <= REVISIONS.end())
        else {
            return STATUS_REVISION_MISMATCH;
        };
        if flags & !VALID_FLAGS != 0 {
            return STATUS_INVALID_PARAMETER;
        }
        let entry = acl::entry(ALLOWED, flags as u8, mask, sid);
        if list.first_free() + entry.len() > list.bytes().len() {
            return STATUS_ALLOTTED_SPACE_EXCEEDED;
        }
        insert(at, list, list.len(), 1, &entry, revision.max(list.bytes()[0]));
    }
    STATUS_SUCCESS
}

export! {
    /// *RtlCreateAcl function (ntifs.h)*: an empty list of that many bytes.
    pub unsafe extern "win64" fn RtlCreateAcl(list: *mut u8, bytes: u32, revision: u32) -> NTSTATUS {
        if (bytes as usize) < HEADER {
            return STATUS_BUFFER_TOO_SMALL;
        }
        let (Ok(size), Ok(revision)) = (u16::try_from(bytes), u8::try_from(revision)) else {
            return STATUS_INVALID_PARAMETER;
        };
        if !REVISIONS.contains(&revision) {
            return STATUS_INVALID_PARAMETER;
        }
        let size = (size & !3).to_le_bytes();
        // SAFETY: the caller's storage, of which these are the first bytes.
        unsafe { list.cast::<[u8; HEADER]>().write([revision, 0, size[0], size[1], 0, 0, 0, 0]) };
        STATUS_SUCCESS
    }

    /// *RtlAddAccessAllowedAce function (ntifs.h)*: behind the others; STATUS_ALLOTTED_SPACE_EXCEEDED where the list is full.
    pub unsafe extern "win64" fn RtlAddAccessAllowedAce(
        list: *mut u8,
        revision: u32,
        mask: u32,
        sid: *const u8,
    ) -> NTSTATUS {
        // SAFETY: the caller's list and identifier.
        unsafe { add(list, revision, 0, mask, sid) }
    }

    /// *RtlAddAccessAllowedAceEx function (ntifs.h)*: the same with flags of inheritance.
    pub unsafe extern "win64" fn RtlAddAccessAllowedAceEx(
        list: *mut u8,
        revision: u32,
        flags: u32,
        mask: u32,
        sid: *const u8,
    ) -> NTSTATUS {
        // SAFETY: the caller's list and identifier.
        unsafe { add(list, revision, flags, mask, sid) }
    }

    /// *RtlAddAce function (ntifs.h)*: one or more entries in front of that number, or behind all for MAXULONG.
    pub unsafe extern "win64" fn RtlAddAce(
        list: *mut u8,
        revision: u32,
        index: u32,
        entries: *const u8,
        bytes: u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's list, and that many bytes of entries.
        unsafe {
            let (Some(known), false) = (acl_at(list), entries.is_null()) else { return STATUS_INVALID_PARAMETER };
            let entries = core::slice::from_raw_parts(entries, bytes as usize);
            let mut rest = entries;
            let mut count = 0;
            while !rest.is_empty() {
                let Some(entry) = Entry::parse(rest).filter(|entry| entry.bytes().len() >= ENTRY_HEADER) else {
                    return STATUS_INVALID_PARAMETER;
                };
                rest = &rest[entry.bytes().len()..];
                count += 1;
            }
            let Some(revision) = u8::try_from(revision).ok().filter(|revision| REVISIONS.contains(revision)) else {
                return STATUS_INVALID_PARAMETER;
            };
            if known.first_free() + entries.len() > known.bytes().len() {
                return STATUS_BUFFER_TOO_SMALL;
            }
            let index = (index as usize).min(known.len());
            insert(list, known, index, count, entries, revision.max(known.bytes()[0]));
        }
        STATUS_SUCCESS
    }

    /// *RtlDeleteAce function (ntifs.h)*: those behind it move up; STATUS_INVALID_PARAMETER where there is none of that number.
    pub unsafe extern "win64" fn RtlDeleteAce(list: *mut u8, index: u32) -> NTSTATUS {
        // SAFETY: the caller's list.
        unsafe {
            let Some(known) = acl_at(list).filter(|known| (index as usize) < known.len()) else {
                return STATUS_INVALID_PARAMETER;
            };
            let (start, next) = (offset_of(known, index as usize), offset_of(known, index as usize + 1));
            let (end, number) = (known.first_free(), known.len() - 1);
            list.add(next).copy_to(list.add(start), end - next);
            list.add(start + end - next).write_bytes(0, next - start);
            list.add(4).cast::<u16>().write_unaligned(number as u16);
        }
        STATUS_SUCCESS
    }

    /// *RtlGetAce function (ntifs.h)*: where entry `index` is; STATUS_INVALID_PARAMETER where there is none of that number.
    pub unsafe extern "win64" fn RtlGetAce(list: *mut u8, index: u32, entry: *mut PVOID) -> NTSTATUS {
        // SAFETY: the caller's list, and storage for the address.
        unsafe {
            match acl_at(list).filter(|known| (index as usize) < known.len()) {
                None => STATUS_INVALID_PARAMETER,
                Some(known) => {
                    entry.write(list.add(offset_of(known, index as usize)).cast());
                    STATUS_SUCCESS
                }
            }
        }
    }
}

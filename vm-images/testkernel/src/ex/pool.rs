//! The pool: the memory that drivers allocate.
//!
//! Blocks are 16-byte aligned, or on a line of the caches where that is asked for; those of a page or more are whole
//! pages. All of it is resident and not executable, paged and nonpaged alike. Freed memory keeps its contents until it is used again, as on Windows: only special pool
//! makes a late access visible, and this is the plain one. Who holds what is kept in books of its own
//! ([`Books`]), out of reach of a driver that writes where it should not. Each block remembers its tag and the
//! address of the code that asked for it, so that a driver can be told what it left behind.
//!
//! The entry points are a few instructions of assembly that pass their return address on: a Rust function cannot
//! ask who called it.

use core::ops::Range;
use core::ptr::NonNull;

use alloc::vec::Vec;
use squall_testkernel_pure::pool::{ALIGNMENT, BadFree, Block, Books, Kind, Terms};

use crate::ke::bugcheck::bugcheck;
use crate::ke::irql::{self, Irql};
use crate::ke::lock::SpinLock;
use crate::ldr::caller::Call;
use crate::ldr::export::export;
use crate::ldr::raising::may_raise;
use crate::mm::frame::PAGE_SIZE;
use crate::mm::pool_region;
use crate::nt::{
    BOOLEAN, FALSE, NTSTATUS, POOL_FLAG_CACHE_ALIGNED, POOL_FLAG_NON_PAGED, POOL_FLAG_NON_PAGED_EXECUTE,
    POOL_FLAG_PAGED, POOL_FLAG_RAISE_ON_FAILURE, POOL_FLAG_SESSION, POOL_FLAG_UNINITIALIZED, PVOID,
    STATUS_INSUFFICIENT_RESOURCES,
};
use crate::selftest::{check, kernel_test};
use crate::vf::{force_irql, freed_memory, noted, special_pool};

const BAD_POOL_CALLER: u32 = 0xC2;
/// Where system addresses begin.
pub const SYSTEM_START: usize = 0xFFFF_8000_0000_0000;
/// The pool never holds more than this, so that a driver that leaks does not take the agent's memory too.
const MAX_BYTES: usize = 24 << 20;
/// The pool grows by at least this much.
const GROWTH: usize = 256 << 10;

struct Pool {
    books: Books,
    bytes: usize,
}

static POOL: SpinLock<Pool> = SpinLock::new(Pool { books: Books::new(), bytes: 0 });

/// Allocates a block; none where the pool is exhausted. What a verified driver asks for may come from special pool.
pub fn allocate(terms: Terms, zeroed: bool) -> Option<NonNull<u8>> {
    let level = irql::current();
    if level > Irql::DISPATCH {
        bugcheck(BAD_POOL_CALLER, [8, level.0.into(), terms.paged.into(), terms.size as u64]);
    }
    let pointer = match special_pool::allocate(terms) {
        Some(special) => special,
        None => allocate_plain(terms)?,
    };
    if zeroed {
        // SAFETY: the block is `size` bytes of the pool's memory that nobody else has.
        unsafe { pointer.write_bytes(0, terms.size) };
    }
    Some(pointer)
}

fn allocate_plain(terms: Terms) -> Option<NonNull<u8>> {
    let mut pool = POOL.lock();
    let block = match pool.books.allocate(terms) {
        Some(block) => block,
        None => {
            pool.grow(terms.size)?;
            pool.books.allocate(terms)?
        }
    };
    NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(block.address))
}

/// Blocks and bytes in use; special pool's not among them.
pub fn in_use() -> (usize, usize) {
    POOL.lock().books.in_use()
}

/// Allocates a zeroed nonpaged block for the kernel itself.
pub fn allocate_zeroed(size: usize, tag: [u8; 4]) -> Option<NonNull<u8>> {
    allocate(Terms { size, tag: u32::from_le_bytes(tag), ..Terms::default() }, true)
}

/// Allocates a zeroed nonpaged block for an object of the kernel's that the driver asked for whose code called from
/// `caller`: what it leaves behind counts as its own.
pub fn allocate_object(size: usize, kind: Kind, caller: usize) -> Option<NonNull<u8>> {
    let tag = match kind {
        Kind::Plain => *b"IoSb",
        Kind::Irp => *b"Irp ",
        Kind::Mdl => *b"Mdl ",
        Kind::WorkItem => *b"IoWk",
        Kind::Controller => *b"IoCt",
        Kind::ErrorLogEntry => *b"IoEr",
    };
    allocate(Terms { size, tag: u32::from_le_bytes(tag), caller, kind, ..Terms::default() }, true)
}

/// Frees a block. What is no block is a bug check, as `ExFreePoolWithTag` documents; tag 0 matches any.
pub fn free(address: usize, tag: u32) {
    let level = irql::current();
    if level > Irql::DISPATCH {
        bugcheck(BAD_POOL_CALLER, [9, level.0.into(), 0, address as u64]);
    }
    if address < SYSTEM_START {
        bugcheck(BAD_POOL_CALLER, [0x40, address as u64, SYSTEM_START as u64, 0]);
    }
    if let Known::Live(block) = look_up(address) {
        noted::memory_goes(&(address..address + block.size));
        freed_memory::forget(&(address..address + block.size));
        if block.paged && block.size >= PAGE_SIZE {
            // Whoever has its pages next finds them there.
            force_irql::restore(&(address as u64..(address + block.size) as u64));
        }
    }
    if special_pool::holds(address) {
        special_pool::free(address);
        return;
    }
    // The lock is free again before any bug check, which reports the IRQL it was raised at.
    match take_back(address, tag) {
        Ok(()) => {}
        Err(BadFree::WrongTag(owner)) => {
            bugcheck(BAD_POOL_CALLER, [0xA, address as u64, owner.into(), tag.into()]);
        }
        Err(BadFree::AlreadyFreed(block)) => {
            bugcheck(BAD_POOL_CALLER, [7, 0, pool_header(&block), address as u64]);
        }
        Err(BadFree::NeverAllocated) => bugcheck(BAD_POOL_CALLER, [0x46, address as u64, 0, 0]),
    }
}

fn take_back(address: usize, tag: u32) -> Result<(), BadFree> {
    POOL.lock().books.free(address, tag).map(|_| ())
}

/// The blocks that code in `range` allocated and has not freed.
pub fn allocated_by(range: &Range<u64>) -> Vec<Block> {
    let is_in = |caller: usize| range.contains(&(caller as u64));
    let mut blocks: Vec<Block> = POOL.lock().books.blocks_of(is_in).copied().collect();
    blocks.extend(special_pool::allocated_by(is_in));
    blocks
}

/// The block in use that `address` lies in, special pool's among them.
pub fn holding(address: usize) -> Option<Block> {
    if special_pool::holds(address) {
        return special_pool::holding(address);
    }
    POOL.lock().books.holding(address).copied()
}

/// What the pool knows of an address.
#[derive(Clone, Copy, Debug)]
pub enum Known {
    /// A block that is in use begins there.
    Live(Block),
    /// One did.
    Freed(Block),
    /// None does, or did not long ago.
    Never,
}

/// What the pool knows of `address`.
pub fn look_up(address: usize) -> Known {
    if special_pool::holds(address) {
        return special_pool::look_up(address);
    }
    let pool = POOL.lock();
    let freed = || pool.books.freed(address).map_or(Known::Never, |block| Known::Freed(*block));
    pool.books.find(address).map_or_else(freed, |block| Known::Live(*block))
}

impl Pool {
    fn grow(&mut self, size: usize) -> Option<()> {
        let bytes = size.checked_next_multiple_of(PAGE_SIZE)?.max(GROWTH);
        if self.bytes.checked_add(bytes)? > MAX_BYTES {
            return None;
        }
        let memory = pool_region::allocate(bytes / PAGE_SIZE)?;
        self.bytes += bytes;
        self.books.grow(memory.as_ptr().expose_provenance(), bytes);
        Some(())
    }
}

/// What Windows' own header of such a block holds, for a bug check's parameter: size in 16-byte units and tag.
pub fn pool_header(block: &Block) -> u64 {
    let units = (block.size.div_ceil(16) + 1).min(0xFF) as u64;
    u64::from(block.tag) << 32 | units << 16
}

/// # Safety
/// The call must be one of ExAllocatePool2's.
unsafe extern "win64" fn allocate_pool_2(call: &Call<3>, raised: &mut NTSTATUS) -> PVOID {
    /// Flags that a caller may insist on; an unknown one among the lower 32 fails the call.
    const REQUIRED: u64 = 0xFFFF_FFFF;
    const KNOWN: u64 = POOL_FLAG_UNINITIALIZED
        | POOL_FLAG_SESSION
        | POOL_FLAG_CACHE_ALIGNED
        | POOL_FLAG_RAISE_ON_FAILURE
        | POOL_FLAG_NON_PAGED
        | POOL_FLAG_NON_PAGED_EXECUTE
        | POOL_FLAG_PAGED
        | 1;
    let ([flags, bytes, tag], caller) = (call.arguments, call.caller);
    let (flags, tag) = (flags as u64, tag as u32);
    let kinds = flags & (POOL_FLAG_NON_PAGED | POOL_FLAG_NON_PAGED_EXECUTE | POOL_FLAG_PAGED);
    if flags & REQUIRED & !KNOWN != 0 || kinds.count_ones() != 1 {
        return core::ptr::null_mut();
    }
    let terms = Terms {
        size: bytes,
        tag,
        paged: kinds == POOL_FLAG_PAGED,
        cache_aligned: flags & POOL_FLAG_CACHE_ALIGNED != 0,
        caller,
        ..Terms::default()
    };
    match allocate(terms, flags & POOL_FLAG_UNINITIALIZED == 0) {
        Some(block) => block.as_ptr().cast(),
        None => {
            if flags & POOL_FLAG_RAISE_ON_FAILURE != 0 {
                *raised = STATUS_INSUFFICIENT_RESOURCES;
            }
            core::ptr::null_mut()
        }
    }
}

/// `POOL_EXTENDED_PARAMETER`: what kind, in the lower 8 bits, whether it may be passed over, and its value.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct ExtendedParameter {
    kind: u64,
    value: u64,
}

impl ExtendedParameter {
    /// Whether memory as it asks for can be given: of any priority alike, from the one node; secure pool there is none.
    fn can_be_kept(&self) -> bool {
        const OPTIONAL: u64 = 1 << 8;
        /// `MM_ANY_NODE_OK`.
        const ANY_NODE: u32 = 0x8000_0000;
        let is_known = match self.kind & 0xFF {
            // PoolExtendedParameterPriority
            1 => true,
            // PoolExtendedParameterNumaNode
            3 => self.value as u32 == 0 || self.value as u32 & ANY_NODE != 0,
            _ => false,
        };
        is_known || self.kind & OPTIONAL != 0
    }
}

/// # Safety
/// The call must be one of ExAllocatePool3's.
unsafe extern "win64" fn allocate_pool_3(call: &Call<5>, raised: &mut NTSTATUS) -> PVOID {
    let [flags, bytes, tag, parameters, count] = call.arguments;
    let parameters = core::ptr::with_exposed_provenance::<ExtendedParameter>(parameters);
    // SAFETY: the caller gives that many.
    let mut each = (0..count as u32 as usize).map(|index| unsafe { parameters.add(index).read() });
    if !each.all(|parameter| parameter.can_be_kept()) {
        return core::ptr::null_mut();
    }
    // SAFETY: the rest is ExAllocatePool2's.
    unsafe { allocate_pool_2(&Call { caller: call.caller, arguments: [flags, bytes, tag] }, raised) }
}

/// `POOL_RAISE_IF_ALLOCATION_FAILURE` of a pool type.
pub const RAISE_ON_FAILURE: u32 = 16;
/// `POOL_QUOTA_FAIL_INSTEAD_OF_RAISE` of a pool type, for the quota routines.
const QUOTA_FAIL: u32 = 8;

/// Memory of this kind for `caller`, not zeroed; where there is none, and the kind asks for it, an exception is to be raised.
fn allocate_pool(kind: u32, bytes: usize, tag: u32, caller: usize, raised: &mut NTSTATUS) -> PVOID {
    /// What the pool types that are cache aligned have in common.
    const CACHE_ALIGNED: u32 = 4;
    let terms = Terms {
        size: bytes,
        tag,
        paged: kind & 1 != 0,
        cache_aligned: kind & CACHE_ALIGNED != 0,
        caller,
        ..Terms::default()
    };
    let block = allocate(terms, false);
    if block.is_none() && kind & RAISE_ON_FAILURE != 0 {
        *raised = STATUS_INSUFFICIENT_RESOURCES;
    }
    block.map_or(core::ptr::null_mut(), |block| block.as_ptr().cast())
}

/// No process has a quota to charge: only the way in which failure is told differs.
const fn with_quota(kind: u32) -> u32 {
    if kind & QUOTA_FAIL != 0 { kind & !RAISE_ON_FAILURE } else { kind | RAISE_ON_FAILURE }
}

const UNTAGGED: u32 = u32::from_le_bytes(*b"None");

/// # Safety
/// Everywhere below: the call must be one of the export's of a similar name.
unsafe extern "win64" fn allocate_tagged(call: &Call<3>, raised: &mut NTSTATUS) -> PVOID {
    let [kind, bytes, tag] = call.arguments;
    allocate_pool(kind as u32, bytes, tag as u32, call.caller, raised)
}

/// # Safety
/// As above.
unsafe extern "win64" fn allocate_untagged(call: &Call<2>, raised: &mut NTSTATUS) -> PVOID {
    let [kind, bytes] = call.arguments;
    allocate_pool(kind as u32, bytes, UNTAGGED, call.caller, raised)
}

/// # Safety
/// As above.
unsafe extern "win64" fn allocate_quota_tagged(call: &Call<3>, raised: &mut NTSTATUS) -> PVOID {
    let [kind, bytes, tag] = call.arguments;
    allocate_pool(with_quota(kind as u32), bytes, tag as u32, call.caller, raised)
}

/// # Safety
/// As above.
unsafe extern "win64" fn allocate_quota(call: &Call<2>, raised: &mut NTSTATUS) -> PVOID {
    let [kind, bytes] = call.arguments;
    allocate_pool(with_quota(kind as u32), bytes, UNTAGGED, call.caller, raised)
}

export! {
    /// *ExAllocatePool2 function (wdm.h)*: zeroed unless POOL_FLAG_UNINITIALIZED; null for flags it does not know.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ExAllocatePool2(flags: u64, bytes: usize, tag: u32) -> PVOID {
        may_raise!(allocate_pool_2)
    }

    /// *ExAllocatePool3 function (wdm.h)*: as ExAllocatePool2; null for a parameter that it does not know, or cannot keep, unless it is optional.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ExAllocatePool3(
        flags: u64,
        bytes: usize,
        tag: u32,
        parameters: PVOID,
        count: u32,
    ) -> PVOID {
        may_raise!(allocate_pool_3)
    }

    /// *ExQueryPoolBlockSize function (ntifs.h)*: bytes that the block has, and that no quota was charged for it; 0 for what is none.
    pub unsafe extern "win64" fn ExQueryPoolBlockSize(block: PVOID, charged: *mut BOOLEAN) -> usize {
        // SAFETY: the caller gives storage.
        unsafe { charged.write(FALSE) };
        match look_up(block.addr()) {
            Known::Live(block) if block.size < PAGE_SIZE => block.size.max(1).next_multiple_of(ALIGNMENT),
            Known::Live(block) => block.size.next_multiple_of(PAGE_SIZE),
            Known::Freed(_) | Known::Never => 0,
        }
    }

    /// *ExAllocatePoolWithTag function (wdm.h)*: not zeroed.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ExAllocatePoolWithTag(kind: u32, bytes: usize, tag: u32) -> PVOID {
        may_raise!(allocate_tagged)
    }

    /// *ExAllocatePool function (wdm.h)*: tagged `None`.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ExAllocatePool(kind: u32, bytes: usize) -> PVOID {
        may_raise!(allocate_untagged)
    }

    /// *ExAllocatePoolWithQuotaTag function (wdm.h)*: raises STATUS_INSUFFICIENT_RESOURCES unless
    /// POOL_QUOTA_FAIL_INSTEAD_OF_RAISE is said.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ExAllocatePoolWithQuotaTag(kind: u32, bytes: usize, tag: u32) -> PVOID {
        may_raise!(allocate_quota_tagged)
    }

    /// *ExAllocatePoolWithQuota function (wdm.h)*: tagged `None`.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ExAllocatePoolWithQuota(kind: u32, bytes: usize) -> PVOID {
        may_raise!(allocate_quota)
    }

    /// *ExAllocatePoolWithTagPriority function (wdm.h)*: of any priority alike, until the pool is exhausted.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ExAllocatePoolWithTagPriority(
        kind: u32,
        bytes: usize,
        tag: u32,
        priority: u32,
    ) -> PVOID {
        may_raise!(allocate_tagged)
    }

    /// *ExFreePoolWithTag function (wdm.h)*: BAD_POOL_CALLER for what is not an allocated block.
    pub unsafe extern "win64" fn ExFreePoolWithTag(block: PVOID, tag: u32) {
        free(block.addr(), tag);
    }

    /// *ExFreePool function (wdm.h)*.
    pub unsafe extern "win64" fn ExFreePool(block: PVOID) {
        free(block.addr(), 0);
    }
}

kernel_test! {
    fn a_block_is_zeroed_and_remembers_who_asked() {
        // SAFETY: plain allocations, freed below.
        unsafe {
            let block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 40, u32::from_le_bytes(*b"test"));
            check!(!block.is_null() && block.addr().is_multiple_of(16));
            check!((0..40).all(|index| block.cast::<u8>().add(index).read() == 0));
            let here = crate::mm::paging::kernel_text();
            check!(allocated_by(&here).iter().any(|found| found.address == block.addr() && found.size == 40));
            ExFreePoolWithTag(block, u32::from_le_bytes(*b"test"));
            check!(!allocated_by(&here).iter().any(|found| found.address == block.addr()));
        }
    }

    fn freed_memory_keeps_its_contents() {
        // SAFETY: the block is read once after it was freed, while nobody allocates: that is the point.
        unsafe {
            let block = ExAllocatePoolWithTag(0, 64, 1).cast::<u64>();
            check!(!block.is_null());
            block.add(3).write(0x0123_4567_89AB_CDEF);
            ExFreePool(block.cast());
            check!(block.add(3).read_volatile() == 0x0123_4567_89AB_CDEF);
        }
    }

    /// *ExAllocatePoolWithQuotaTag function (wdm.h)*: with the flag, failure is a null pointer.
    fn quota_can_be_told_to_fail_quietly() {
        // SAFETY: plain allocations.
        unsafe {
            check!(ExAllocatePoolWithQuotaTag(QUOTA_FAIL, usize::MAX / 2, 1).is_null());
            let block = ExAllocatePoolWithQuotaTag(512, 32, u32::from_le_bytes(*b"Quot"));
            check!(!block.is_null());
            ExFreePoolWithTag(block, u32::from_le_bytes(*b"Quot"));
            let block = ExAllocatePoolWithQuota(512, 32);
            ExFreePoolWithTag(block, u32::from_le_bytes(*b"None"));
            let block = ExAllocatePoolWithTagPriority(512, 32, 7, 32);
            check!(!block.is_null());
            ExFreePool(block);
        }
    }

    /// *POOL_EXTENDED_PARAMETER structure (wdm.h)*: what is not known fails the call, unless it is optional.
    fn parameters_that_cannot_be_kept_fail_the_allocation() {
        let ask = |kind, value| {
            let mut parameter = ExtendedParameter { kind, value };
            // SAFETY: one parameter, and what is allocated is freed at once.
            unsafe {
                let block = ExAllocatePool3(POOL_FLAG_NON_PAGED, 40, 1, (&raw mut parameter).cast(), 1);
                let given = !block.is_null();
                if given {
                    let mut charged = 9;
                    assert!(ExQueryPoolBlockSize(block, &raw mut charged) == 48 && charged == FALSE);
                    ExFreePool(block);
                }
                given
            }
        };
        check!(ask(1, 32) && ask(3, 0) && ask(3, 0x8000_0005) && ask(2 | 1 << 8, 0));
        check!(!ask(2, 0) && !ask(3, 7) && !ask(9, 0));
    }

    fn flags_that_contradict_each_other_are_refused() {
        // SAFETY: nothing is allocated.
        unsafe {
            check!(ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_PAGED, 16, 1).is_null());
            check!(ExAllocatePool2(0, 16, 1).is_null());
            check!(ExAllocatePool2(POOL_FLAG_NON_PAGED | 1 << 20, 16, 1).is_null());
            check!(ExAllocatePool2(POOL_FLAG_NON_PAGED, usize::MAX / 2, 1).is_null());
        }
    }
}

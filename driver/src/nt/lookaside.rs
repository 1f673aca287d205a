//! Lookaside lists: blocks of one size, kept for the next who asks.
//!
//! The kernel's headers do most of the work inline, on the fields of the list, so it is written out here.

use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::{self, MaybeUninit},
    ptr::NonNull,
};

use wdk_sys::{
    NPAGED_LOOKASIDE_LIST, SIZE_T, STATUS_INSUFFICIENT_RESOURCES,
    ntddk::{
        ExDeleteNPagedLookasideList, ExInitializeNPagedLookasideList, ExQueryDepthSList,
        ExpInterlockedPopEntrySList, ExpInterlockedPushEntrySList,
    },
};

use super::{pool::TAG, status::Result};

/// Memory for a list, non-paged, that does not move.
///
/// The headers align the list to a cache line, which pool does not: what the processor needs is the 16 bytes of the list's head.
#[repr(C, align(16))]
pub(crate) struct LookasideMemory(UnsafeCell<MaybeUninit<[u8; size_of::<NPAGED_LOOKASIDE_LIST>()]>>);

// SAFETY: the routines below use it with interlocked operations, but for its counts, whose exactness nothing depends on.
unsafe impl Sync for LookasideMemory {}

impl LookasideMemory {
    /// Memory for one.
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::zeroed()))
    }
}

/// A list of blocks that hold a `T`; deleted when dropped.
pub(crate) struct Lookaside<T> {
    list: NonNull<NPAGED_LOOKASIDE_LIST>,
    blocks: PhantomData<T>,
}

impl<T> Lookaside<T> {
    /// Makes the memory a list of non-paged blocks.
    ///
    /// # Safety
    ///
    /// It lies where it will stay, and nobody uses it yet. Every block is back, and the value dropped, before the memory goes.
    pub(crate) unsafe fn initialize(memory: &LookasideMemory) -> Self {
        const { assert!(align_of::<T>() <= 16, "pool is aligned to 16 bytes") };
        let list: *mut NPAGED_LOOKASIDE_LIST = memory.0.get().cast();
        // SAFETY: by contract. Without routines of ours, blocks come from pool; flags and depth are the system's to choose.
        unsafe {
            ExInitializeNPagedLookasideList(list, None, None, 0, size_of::<T>() as SIZE_T, TAG, 0);
        }
        // SAFETY: a reference's address is not null.
        Self { list: unsafe { NonNull::new_unchecked(list) }, blocks: PhantomData }
    }

    /// `ExDeleteNPagedLookasideList`: frees the blocks it keeps, and takes it off the system's own list of lists.
    pub(crate) fn delete(self) {
        drop(self);
    }

    /// For the routines that use it.
    pub(crate) fn handle(&self) -> Handle<T> {
        Handle(self.list.as_ptr(), PhantomData)
    }
}

impl<T> Drop for Lookaside<T> {
    fn drop(&mut self) {
        // SAFETY: initialized, and deleted here alone.
        unsafe { ExDeleteNPagedLookasideList(self.list.as_ptr()) };
    }
}

/// The list as dispatch routines know it.
pub(crate) struct Handle<T>(*mut NPAGED_LOOKASIDE_LIST, PhantomData<T>);

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> Handle<T> {
    /// None yet.
    pub(crate) const fn none() -> Self {
        Self(core::ptr::null_mut(), PhantomData)
    }

    /// Puts a value into a block (`ExAllocateFromNPagedLookasideList`). At DISPATCH_LEVEL or below.
    ///
    /// # Safety
    ///
    /// The list exists.
    pub(crate) unsafe fn allocate(self, value: T) -> Result<NonNull<T>> {
        const { assert!(!mem::needs_drop::<T>(), "freeing a block drops nothing") };
        // SAFETY: by contract. The union's member is the one of a list that the routine above initialized.
        let head = unsafe { &raw mut (*self.0).L.__bindgen_anon_1.ListHead };
        // SAFETY: as above.
        count(unsafe { &raw mut (*self.0).L.TotalAllocates });
        // SAFETY: initialized.
        let mut block = unsafe { ExpInterlockedPopEntrySList(head) }.cast::<T>();
        if block.is_null() {
            // SAFETY: the member that counts misses; as above.
            count(unsafe { &raw mut (*self.0).L.__bindgen_anon_2.AllocateMisses });
            // SAFETY: as above; never changes.
            let kind = unsafe { (*self.0).L.Type };
            // SAFETY: as above.
            let size = unsafe { (*self.0).L.Size };
            // SAFETY: as above.
            let tag = unsafe { (*self.0).L.Tag };
            // SAFETY: as above.
            let routine = unsafe { &raw const (*self.0).L.__bindgen_anon_4.Allocate };
            // SAFETY: set by the routine above.
            if let Some(allocate) = unsafe { *routine } {
                // SAFETY: with what the list was made for.
                block = unsafe { allocate(kind, size as SIZE_T, tag) }.cast();
            }
        }
        let block = NonNull::new(block).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
        // SAFETY: a block of the list's size, which is that of `T`, and ours.
        unsafe { block.write(value) };
        Ok(block)
    }

    /// Gives a block back (`ExFreeToNPagedLookasideList`). At DISPATCH_LEVEL or below.
    ///
    /// # Safety
    ///
    /// The list exists, the block came from it and is used no more.
    pub(crate) unsafe fn free(self, block: NonNull<T>) {
        // SAFETY: as in `allocate`.
        let head = unsafe { &raw mut (*self.0).L.__bindgen_anon_1.ListHead };
        // SAFETY: as in `allocate`.
        count(unsafe { &raw mut (*self.0).L.TotalFrees });
        // SAFETY: as in `allocate`.
        let depth = unsafe { (*self.0).L.Depth };
        // SAFETY: initialized.
        if unsafe { ExQueryDepthSList(head) } < depth {
            // SAFETY: initialized; a block is large enough for the link, which is what the kernel made sure of.
            let _ = unsafe { ExpInterlockedPushEntrySList(head, block.as_ptr().cast()) };
            return;
        }
        // SAFETY: the member that counts misses; as in `allocate`.
        count(unsafe { &raw mut (*self.0).L.__bindgen_anon_3.FreeMisses });
        // SAFETY: as in `allocate`.
        let routine = unsafe { &raw const (*self.0).L.__bindgen_anon_5.Free };
        // SAFETY: as in `allocate`.
        if let Some(free) = unsafe { *routine } {
            // SAFETY: the block came from the routine beside this one.
            unsafe { free(block.as_ptr().cast()) };
        }
    }
}

/// Counts one up, roughly, as the headers do: two processors at once may count one.
fn count(counter: *mut u32) {
    // SAFETY: a field of a list that exists.
    let before = unsafe { counter.read_volatile() };
    // SAFETY: as above.
    unsafe { counter.write_volatile(before.wrapping_add(1)) };
}

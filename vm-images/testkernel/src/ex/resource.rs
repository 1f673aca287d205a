//! Resources: `ERESOURCE`, a lock for threads that many may share or one have alone, as often as it likes.
//!
//! Who has to wait is queued and *given* the resource by whoever releases it, in the order of coming; but where exclusive access ends,
//! all who wait to share it go first, as on Windows. Thus a thread that waits for exclusive access is not overtaken by those that come
//! later and share it, unless they ask to.

use core::arch::naked_asm;
use core::mem::offset_of;
use core::ptr;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::ke::bugcheck::bugcheck;
use crate::ke::lock::SpinLock;
use crate::ke::{apc, event, thread, wait};
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE, KEVENT, NTSTATUS, STATUS_SUCCESS, TRUE, object_type};
use crate::selftest::{check, kernel_test};
use crate::vf::census::Census;

const RESOURCE_NOT_OWNED: u32 = 0xE3;

struct Waiter {
    owner: usize,
    exclusive: bool,
    granted: *mut KEVENT,
}

/// Who has the resource, and who waits.
struct State {
    exclusive: bool,
    /// Threads, and how often each has it.
    owners: Vec<(usize, u32)>,
    waiters: VecDeque<Waiter>,
}

// SAFETY: the events are on the stacks of threads that wait, and belong to no processor.
unsafe impl Send for State {}

/// `ERESOURCE`: a driver's memory, of which this kernel uses one word.
#[derive(Debug)]
#[repr(C)]
pub struct Resource {
    list: [usize; 2],
    /// The resource's state; NT has its table of owners here.
    state: *mut SpinLock<State>,
    unused: [usize; 10],
}

const _: () = assert!(size_of::<Resource>() == 0x68 && offset_of!(Resource, state) == 0x10);

impl State {
    const fn free() -> Self {
        Self { exclusive: false, owners: Vec::new(), waiters: VecDeque::new() }
    }

    fn count_of(&self, owner: usize) -> u32 {
        self.owners.iter().find(|other| other.0 == owner).map_or(0, |other| other.1)
    }

    fn add(&mut self, owner: usize, exclusive: bool) {
        match self.owners.iter_mut().find(|other| other.0 == owner) {
            Some(other) => other.1 += 1,
            None => {
                self.owners.push((owner, 1));
                self.exclusive = exclusive;
            }
        }
    }

    fn waits_exclusively(&self) -> usize {
        self.waiters.iter().filter(|waiter| waiter.exclusive).count()
    }

    fn waits_shared(&self) -> usize {
        self.waiters.len() - self.waits_exclusively()
    }

    /// Lets everybody in who waits to share it, whoever was before them in the queue: what NT does where exclusive access ends.
    fn grant_shared(&mut self) -> Vec<*mut KEVENT> {
        let mut granted = Vec::new();
        let (shared, exclusive) =
            core::mem::take(&mut self.waiters).into_iter().partition(|waiter| !waiter.exclusive);
        self.waiters = exclusive;
        let shared: VecDeque<Waiter> = shared;
        for waiter in shared {
            self.add(waiter.owner, false);
            granted.push(waiter.granted);
        }
        granted
    }

    /// Lets in whoever is first in the queue and may; their events are to be set once the lock is free.
    fn grant(&mut self) -> Vec<*mut KEVENT> {
        let mut granted = Vec::new();
        while let Some(first) = self.waiters.front() {
            let free = self.owners.is_empty() || (!first.exclusive && !self.exclusive);
            if !free {
                break;
            }
            let Some(first) = self.waiters.pop_front() else { break };
            self.add(first.owner, first.exclusive);
            granted.push(first.granted);
        }
        granted
    }
}

/// How somebody wants the resource.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Exclusive,
    /// Behind those that wait for exclusive access, unless it is the caller's already.
    Shared,
    /// Before them.
    SharedStarveExclusive,
    /// Behind them, also where it is the caller's already.
    SharedWaitForExclusive,
}

fn me() -> usize {
    thread::current().as_ptr().addr()
}

/// # Safety
/// Everywhere below: `resource` was initialized, and is alive.
unsafe fn state<'a>(resource: *mut Resource) -> &'a SpinLock<State> {
    // SAFETY: the caller's: the state lives until the resource is deleted.
    unsafe { &*(*resource).state }
}

/// # Safety
/// As above.
unsafe fn acquire(resource: *mut Resource, access: Access, may_wait: BOOLEAN) -> BOOLEAN {
    let owner = me();
    let mut granted = core::mem::MaybeUninit::<KEVENT>::uninit();
    let granted = granted.as_mut_ptr();
    {
        // SAFETY: the caller's.
        let mut state = unsafe { state(resource) }.lock();
        let mine = state.count_of(owner) > 0;
        let contended = state.waits_exclusively() > 0;
        let free = match access {
            _ if state.exclusive => mine,
            Access::Exclusive => state.owners.is_empty(),
            Access::Shared => mine || !contended,
            Access::SharedStarveExclusive => true,
            Access::SharedWaitForExclusive => !contended,
        };
        if free {
            state.add(owner, access == Access::Exclusive);
            return TRUE;
        }
        if may_wait == FALSE {
            return FALSE;
        }
        // SAFETY: the event is on this stack until somebody has set it.
        unsafe { event::initialize(granted, object_type::EVENT_SYNCHRONIZATION, false) };
        let waiter = Waiter { owner, exclusive: access == Access::Exclusive, granted };
        match access {
            Access::SharedStarveExclusive => state.waiters.push_front(waiter),
            _ => state.waiters.push_back(waiter),
        }
    }
    // SAFETY: as above.
    unsafe { wait::for_one(granted.cast(), None) };
    TRUE
}

fn wake(granted: Vec<*mut KEVENT>) {
    for event in granted {
        // SAFETY: whoever waits keeps its event until it is set.
        unsafe { event::set(event) };
    }
}

/// # Safety
/// As above.
unsafe fn release(resource: *mut Resource, owner: usize) {
    let granted = {
        // SAFETY: the caller's.
        let mut state = unsafe { state(resource) }.lock();
        match state.owners.iter().position(|other| other.0 == owner) {
            None => None,
            Some(index) => {
                state.owners[index].1 -= 1;
                if state.owners[index].1 == 0 {
                    state.owners.swap_remove(index);
                }
                let was_exclusive =
                    state.owners.is_empty() && core::mem::replace(&mut state.exclusive, false);
                let shared_first = was_exclusive && state.waits_shared() > 0;
                Some(if shared_first { state.grant_shared() } else { state.grant() })
            }
        }
    };
    match granted {
        Some(granted) => wake(granted),
        None => bugcheck(RESOURCE_NOT_OWNED, [resource.addr() as u64, owner as u64, 0, 0]),
    }
}

/// What the calling thread has becomes another owner's. By a thread that has nothing: 0xE3.
///
/// # Safety
/// As above.
unsafe fn pass_on(resource: *mut Resource, to: usize) {
    let from = me();
    let has = {
        // SAFETY: the caller's.
        let mut state = unsafe { state(resource) }.lock();
        let mine = state.owners.iter().position(|other| other.0 == from);
        if let Some(index) = mine.filter(|_| to != from) {
            let (_, count) = state.owners.swap_remove(index);
            match state.owners.iter_mut().find(|other| other.0 == to) {
                Some(other) => other.1 += count,
                None => state.owners.push((to, count)),
            }
        }
        mine.is_some()
    };
    if !has {
        bugcheck(RESOURCE_NOT_OWNED, [resource.addr() as u64, from as u64, 0, 0]);
    }
}

/// Resources that were initialized and not deleted.
pub static RESOURCES: Census = Census::new();

/// # Safety
/// `resource` must be writable.
unsafe extern "win64" fn initialize(resource: *mut Resource, caller: usize) -> NTSTATUS {
    let state = Box::into_raw(Box::new(SpinLock::new(State::free())));
    // SAFETY: the caller's storage.
    unsafe { resource.write(Resource { list: [0; 2], state, unused: [0; 10] }) };
    RESOURCES.enter(resource.addr(), caller);
    STATUS_SUCCESS
}

export! {
    /// *ExInitializeResourceLite function (wdm.h)*: nobody's.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ExInitializeResourceLite(resource: *mut Resource) -> NTSTATUS {
        naked_asm!("mov rdx, [rsp]", "jmp {}", sym initialize)
    }

    /// *ExDeleteResourceLite function (wdm.h)*.
    pub unsafe extern "win64" fn ExDeleteResourceLite(resource: *mut Resource) -> NTSTATUS {
        RESOURCES.leave(resource.addr());
        // SAFETY: the caller's resource, which nobody uses any more; its state was made as a box.
        unsafe {
            drop(Box::from_raw((*resource).state));
            (*resource).state = ptr::null_mut();
        }
        STATUS_SUCCESS
    }

    /// *ExReinitializeResourceLite function (wdm.h)*: nobody's again.
    pub unsafe extern "win64" fn ExReinitializeResourceLite(resource: *mut Resource) -> NTSTATUS {
        // SAFETY: the caller's resource.
        *unsafe { state(resource) }.lock() = State::free();
        STATUS_SUCCESS
    }

    /// *ExAcquireResourceExclusiveLite function (wdm.h)*: FALSE only where the caller does not want to wait.
    pub unsafe extern "win64" fn ExAcquireResourceExclusiveLite(
        resource: *mut Resource,
        wait: BOOLEAN,
    ) -> BOOLEAN {
        // SAFETY: the caller's resource.
        unsafe { acquire(resource, Access::Exclusive, wait) }
    }

    /// *ExAcquireResourceSharedLite function (wdm.h)*: behind those that wait for exclusive access.
    pub unsafe extern "win64" fn ExAcquireResourceSharedLite(resource: *mut Resource, wait: BOOLEAN) -> BOOLEAN {
        // SAFETY: the caller's resource.
        unsafe { acquire(resource, Access::Shared, wait) }
    }

    /// *ExAcquireSharedStarveExclusive function (wdm.h)*: before those that wait for exclusive access.
    pub unsafe extern "win64" fn ExAcquireSharedStarveExclusive(
        resource: *mut Resource,
        wait: BOOLEAN,
    ) -> BOOLEAN {
        // SAFETY: the caller's resource.
        unsafe { acquire(resource, Access::SharedStarveExclusive, wait) }
    }

    /// *ExAcquireSharedWaitForExclusive function (wdm.h)*: behind them in any case.
    pub unsafe extern "win64" fn ExAcquireSharedWaitForExclusive(
        resource: *mut Resource,
        wait: BOOLEAN,
    ) -> BOOLEAN {
        // SAFETY: the caller's resource.
        unsafe { acquire(resource, Access::SharedWaitForExclusive, wait) }
    }

    /// *ExEnterCriticalRegionAndAcquireResourceExclusive function (wdm.h)*.
    pub unsafe extern "win64" fn ExEnterCriticalRegionAndAcquireResourceExclusive(resource: *mut Resource) {
        // SAFETY: the caller's resource.
        unsafe {
            apc::KeEnterCriticalRegion();
            acquire(resource, Access::Exclusive, TRUE);
        }
    }

    /// *ExEnterCriticalRegionAndAcquireResourceShared function (wdm.h)*.
    pub unsafe extern "win64" fn ExEnterCriticalRegionAndAcquireResourceShared(resource: *mut Resource) {
        // SAFETY: the caller's resource.
        unsafe {
            apc::KeEnterCriticalRegion();
            acquire(resource, Access::Shared, TRUE);
        }
    }

    /// *ExEnterCriticalRegionAndAcquireSharedWaitForExclusive function (wdm.h)*.
    pub unsafe extern "win64" fn ExEnterCriticalRegionAndAcquireSharedWaitForExclusive(resource: *mut Resource) {
        // SAFETY: the caller's resource.
        unsafe {
            apc::KeEnterCriticalRegion();
            acquire(resource, Access::SharedWaitForExclusive, TRUE);
        }
    }

    /// *ExSetResourceOwnerPointer function (wdm.h)*: what the calling thread has is from now on the owner's whom the pointer stands for;
    /// ExReleaseResourceForThreadLite with it gives it back.
    pub unsafe extern "win64" fn ExSetResourceOwnerPointer(resource: *mut Resource, owner: usize) {
        // SAFETY: the caller's resource.
        unsafe { pass_on(resource, owner) };
    }

    /// *ExSetResourceOwnerPointerEx function (wdm.h)*: the same; with FLAG_OWNER_POINTER_IS_THREAD the owner is a thread, who may give it
    /// back by ExReleaseResourceLite.
    pub unsafe extern "win64" fn ExSetResourceOwnerPointerEx(resource: *mut Resource, owner: usize, _flags: u32) {
        // SAFETY: the caller's resource.
        unsafe { pass_on(resource, owner) };
    }

    /// *ExDisableResourceBoostLite function (ntifs.h)*: nobody's priority is raised for a resource here.
    pub unsafe extern "win64" fn ExDisableResourceBoostLite(_resource: *mut Resource) {}

    /// *ExReleaseResourceLite function (wdm.h)*: by whoever does not have it, the system stops with 0xE3.
    pub unsafe extern "win64" fn ExReleaseResourceLite(resource: *mut Resource) {
        // SAFETY: the caller's resource.
        unsafe { release(resource, me()) };
    }

    /// *ExReleaseResourceForThreadLite function (wdm.h)*: for the thread that has it.
    pub unsafe extern "win64" fn ExReleaseResourceForThreadLite(resource: *mut Resource, owner: usize) {
        // SAFETY: the caller's resource.
        unsafe { release(resource, owner) };
    }

    /// *ExReleaseResourceAndLeaveCriticalRegion function (wdm.h)*.
    pub unsafe extern "win64" fn ExReleaseResourceAndLeaveCriticalRegion(resource: *mut Resource) {
        // SAFETY: the caller's resource.
        unsafe {
            release(resource, me());
            apc::KeLeaveCriticalRegion();
        }
    }

    /// *ExConvertExclusiveToSharedLite function (wdm.h)*: others may share from now on.
    pub unsafe extern "win64" fn ExConvertExclusiveToSharedLite(resource: *mut Resource) {
        let granted = {
            // SAFETY: the caller's resource.
            let mut state = unsafe { state(resource) }.lock();
            state.exclusive = false;
            state.grant_shared()
        };
        wake(granted);
    }

    /// *ExIsResourceAcquiredExclusiveLite function (wdm.h)*: by the calling thread.
    pub unsafe extern "win64" fn ExIsResourceAcquiredExclusiveLite(resource: *mut Resource) -> BOOLEAN {
        // SAFETY: the caller's resource.
        let state = unsafe { state(resource) }.lock();
        (state.exclusive && state.count_of(me()) > 0).into()
    }

    /// *ExIsResourceAcquiredSharedLite function (wdm.h)*: how often the calling thread has it, either way.
    pub unsafe extern "win64" fn ExIsResourceAcquiredSharedLite(resource: *mut Resource) -> u32 {
        // SAFETY: the caller's resource.
        unsafe { state(resource) }.lock().count_of(me())
    }

    /// *ExGetExclusiveWaiterCount function (wdm.h)*.
    pub unsafe extern "win64" fn ExGetExclusiveWaiterCount(resource: *mut Resource) -> u32 {
        // SAFETY: the caller's resource.
        unsafe { state(resource) }.lock().waits_exclusively() as u32
    }

    /// *ExGetSharedWaiterCount function (wdm.h)*.
    pub unsafe extern "win64" fn ExGetSharedWaiterCount(resource: *mut Resource) -> u32 {
        // SAFETY: the caller's resource.
        let state = unsafe { state(resource) }.lock();
        state.waits_shared() as u32
    }
}

/// Runs `test` with a resource that lives as long.
fn with_resource<T>(test: impl FnOnce(*mut Resource) -> T) -> T {
    let mut storage = core::mem::MaybeUninit::<Resource>::uninit();
    let resource = storage.as_mut_ptr();
    // SAFETY: the storage is here; `test` leaves nobody behind that uses it.
    unsafe {
        let _ = ExInitializeResourceLite(resource);
        let result = test(resource);
        let _ = ExDeleteResourceLite(resource);
        result
    }
}

kernel_test! {
    /// *Introduction to ERESOURCE Routines*: recursive for its owner, converted to shared on request.
    fn a_resource_is_its_owners_as_often_as_it_likes() {
        // SAFETY: the resource lives as long as the closure.
        let held = with_resource(|resource| unsafe {
            let twice = ExAcquireResourceExclusiveLite(resource, TRUE) == TRUE
                && ExAcquireResourceSharedLite(resource, FALSE) == TRUE
                && ExIsResourceAcquiredExclusiveLite(resource) == TRUE
                && ExIsResourceAcquiredSharedLite(resource) == 2;
            ExReleaseResourceLite(resource);
            ExConvertExclusiveToSharedLite(resource);
            let shared = ExIsResourceAcquiredExclusiveLite(resource) == FALSE
                && ExIsResourceAcquiredSharedLite(resource) == 1
                && ExAcquireResourceExclusiveLite(resource, FALSE) == FALSE;
            ExReleaseResourceLite(resource);
            twice && shared && ExIsResourceAcquiredSharedLite(resource) == 0
        });
        check!(held);
    }

    /// *ExSetResourceOwnerPointer function (wdm.h)*: the thread has it no more, and whoever stands for it gives it back.
    fn a_resource_is_passed_on_to_an_owner_that_is_no_thread() {
        // SAFETY: the resource lives as long as the closure.
        let passed = with_resource(|resource| unsafe {
            let owner = resource.addr() | 3;
            ExAcquireResourceSharedLite(resource, TRUE);
            ExSetResourceOwnerPointer(resource, owner);
            let gone = ExIsResourceAcquiredSharedLite(resource) == 0 && ExAcquireResourceExclusiveLite(resource, FALSE) == FALSE;
            ExReleaseResourceForThreadLite(resource, owner);
            let free = ExAcquireResourceExclusiveLite(resource, FALSE) == TRUE;
            ExReleaseResourceLite(resource);
            gone && free
        });
        check!(passed);
    }

    /// *ExAcquireResourceSharedLite function (wdm.h)*: behind a waiter for exclusive access, unless told to starve it.
    fn who_waits_for_exclusive_access_goes_before_new_readers() {
        // SAFETY: the resource lives until both threads have ended.
        let order = with_resource(|resource| unsafe {
            let address = resource.expose_provenance();
            let _ = ExAcquireResourceSharedLite(resource, TRUE);
            let writer = thread::spawn("writer", 10, move || {
                let resource = ptr::with_exposed_provenance_mut(address);
                ExAcquireResourceExclusiveLite(resource, TRUE);
                ExReleaseResourceLite(resource);
            });
            while ExGetExclusiveWaiterCount(resource) == 0 {
                thread::sleep_ns(100_000);
            }
            let reader = thread::spawn("reader", 10, move || {
                let resource = ptr::with_exposed_provenance_mut(address);
                let refused = ExAcquireResourceSharedLite(resource, FALSE) == FALSE;
                let starved = ExAcquireSharedStarveExclusive(resource, FALSE) == TRUE;
                if starved {
                    ExReleaseResourceLite(resource);
                }
                thread::exit(u32::from(refused && starved));
            });
            let told = reader.is_ok_and(|reader| reader.join(None) && reader.exit_status() == 1);
            let mine = ExAcquireResourceSharedLite(resource, FALSE) == TRUE
                && ExAcquireSharedWaitForExclusive(resource, FALSE) == FALSE;
            ExReleaseResourceLite(resource);
            ExReleaseResourceLite(resource);
            told && mine && writer.is_ok_and(|writer| writer.join(Some(5_000_000_000)))
        });
        check!(order);
    }
}

//! Counting the objects that live in drivers' own memory.
//!
//! A lookaside list or an ERESOURCE is a structure in memory that the kernel does not own: when that memory goes, nobody
//! tells. So each kind keeps a census: what was initialized and not deleted, and who did it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::ke::lock::SpinLock;
use crate::selftest::{check, kernel_test};

/// Objects of one kind, by address, each with the address of the code that initialized it.
pub struct Census(SpinLock<BTreeMap<usize, usize>>);

impl fmt::Debug for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Census").finish_non_exhaustive()
    }
}

impl Census {
    /// Nobody yet.
    pub const fn new() -> Self {
        Self(SpinLock::new(BTreeMap::new()))
    }

    /// `object` was initialized by the code at `owner`.
    pub fn enter(&self, object: usize, owner: usize) {
        self.0.lock().insert(object, owner);
    }

    /// `object` was deleted; false where it was none.
    pub fn leave(&self, object: usize) -> bool {
        self.0.lock().remove(&object).is_some()
    }

    /// What was known as `from` is known as `to` from now on.
    pub fn moves(&self, from: usize, to: usize) {
        let mut census = self.0.lock();
        if let Some(owner) = census.remove(&from) {
            census.insert(to, owner);
        }
    }

    /// Whether `object` was initialized and not deleted.
    pub fn knows(&self, object: usize) -> bool {
        self.0.lock().contains_key(&object)
    }

    /// The code that initialized `object`, if that was not deleted.
    pub fn owner(&self, object: usize) -> Option<usize> {
        self.0.lock().get(&object).copied()
    }

    /// The first object within `range`.
    pub fn first_in(&self, range: &Range<usize>) -> Option<usize> {
        self.0.lock().range(range.clone()).next().map(|(object, _)| *object)
    }

    /// The objects that code in `range` initialized.
    pub fn of(&self, range: &Range<u64>) -> Vec<usize> {
        let census = self.0.lock();
        let is_owned = |(_, owner): &(&usize, &usize)| range.contains(&(**owner as u64));
        census.iter().filter(is_owned).map(|(object, _)| *object).collect()
    }

    /// The memory in `range` went, whatever was in it; or the code that initialized it did.
    pub fn forget(&self, range: &Range<usize>) {
        let mut census = self.0.lock();
        while let Some((&object, _)) = census.range(range.clone()).next() {
            census.remove(&object);
        }
    }

    /// The code in `range` went, and with it whoever could have deleted what it initialized.
    pub fn forget_owner(&self, range: &Range<u64>) {
        self.0.lock().retain(|_, owner| !range.contains(&(*owner as u64)));
    }
}

kernel_test! {
    fn objects_are_counted_in_and_out_and_go_with_their_memory() {
        let census = Census::new();
        for object in [0x100, 0x180, 0x200, 0x280] {
            census.enter(object, 0x9000 + object);
        }
        check!(census.knows(0x180) && census.leave(0x180) && !census.leave(0x180));
        check!(census.first_in(&(0x101..0x281)) == Some(0x200));
        check!(census.of(&(0x9200..0x9281)).len() == 2);
        census.forget(&(0x200..0x280));
        check!(!census.knows(0x200) && census.knows(0x280) && census.knows(0x100));
        census.forget_owner(&(0x9280..0x9281));
        check!(!census.knows(0x280) && census.knows(0x100));
    }
}

//! In which order locks are taken.
//!
//! Two threads that take two locks in opposite orders deadlock some day, not today. So it is not the deadlock that is looked
//! for but the *order*: whoever takes B while holding A says that A comes before B. Should anybody ever take them so that
//! a circle closes, of two locks or of ten, the stop names the lock that closed it, on whatever day the threads meet.
//!
//! Everything is kept in tables of fixed size, as locks are taken where nothing can be allocated. A lock for which there
//! is no room is not watched.

/// Locks that are watched at once.
pub const LOCKS: usize = 256;
/// Threads and interrupted processors that hold locks at once.
const HOLDERS: usize = 64;
/// Locks that one of them may hold at once.
const DEPTH: usize = 16;
const WORDS: usize = LOCKS / 64;

/// What a lock is, by the routines that take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A spin lock.
    Spin,
    /// A spin lock that is taken as a queued one.
    QueuedSpin,
    /// A fast mutex.
    FastMutex,
    /// A guarded mutex.
    GuardedMutex,
    /// A mutex, which its owner may take again.
    Mutex,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The holder waits for itself.
    SelfDeadlock,
    /// A circle closes.
    Order,
    /// Released while a spin lock taken later is still held, and the level falls: that one should have come first.
    ReleasedBefore(usize),
    /// Released by somebody else than this, who took it.
    WrongHolder(usize),
    /// Initialized while it is known, or even held.
    InitializedAgain,
    /// Released without being held.
    NotHeld,
    /// Taken as a lock of another kind.
    TakenOtherwise,
    /// Released as a lock of another kind.
    ReleasedOtherwise,
}

#[derive(Clone, Copy, Debug)]
struct Lock {
    /// 0 for a free entry.
    address: usize,
    kind: Option<Kind>,
    /// Locks that were taken while this one was held.
    then: [u64; WORDS],
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    /// 0 for a free entry.
    who: usize,
    held: [u16; DEPTH],
    count: usize,
}

impl Holder {
    fn locks(&self) -> &[u16] {
        &self.held[..self.count]
    }
}

const FREE_LOCK: Lock = Lock { address: 0, kind: None, then: [0; WORDS] };
const FREE_HOLDER: Holder = Holder { who: 0, held: [0; DEPTH], count: 0 };

/// The locks, their order, and who holds them.
#[derive(Debug)]
pub struct LockOrder {
    locks: [Lock; LOCKS],
    holders: [Holder; HOLDERS],
    /// There was no room for something: from then on nobody is said not to hold a lock.
    incomplete: bool,
}

impl Default for LockOrder {
    fn default() -> Self {
        Self::new()
    }
}

impl LockOrder {
    /// No lock is known.
    pub const fn new() -> Self {
        Self { locks: [FREE_LOCK; LOCKS], holders: [FREE_HOLDER; HOLDERS], incomplete: false }
    }

    fn find(&self, address: usize) -> Option<usize> {
        self.locks.iter().position(|lock| lock.address == address)
    }

    /// The entry of a lock, made where there is none.
    fn entry(&mut self, address: usize) -> Option<usize> {
        if let Some(index) = self.find(address) {
            return Some(index);
        }
        let index = self.find(0)?;
        self.locks[index] = Lock { address, ..FREE_LOCK };
        Some(index)
    }

    fn holder(&self, who: usize) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.who == who)
    }

    /// Somebody who holds the lock.
    fn holder_of(&self, index: usize) -> Option<usize> {
        let holds = |holder: &&Holder| holder.locks().contains(&(index as u16));
        self.holders.iter().find(holds).map(|holder| holder.who)
    }

    /// Whether the order says that `from` comes before `to`.
    fn leads(&self, from: usize, to: usize) -> bool {
        let mut seen = [0_u64; WORDS];
        let mut fresh = [0_u64; WORDS];
        fresh[from / 64] |= 1 << (from % 64);
        loop {
            let Some(word) = fresh.iter().position(|word| *word != 0) else { return false };
            let index = word * 64 + fresh[word].trailing_zeros() as usize;
            fresh[word] &= fresh[word] - 1;
            if index == to {
                return true;
            }
            seen[index / 64] |= 1 << (index % 64);
            for word in 0..WORDS {
                fresh[word] |= self.locks[index].then[word] & !seen[word];
            }
        }
    }

    /// `who` is about to take a lock; `waits` where it does so whatever that takes.
    pub fn take(&mut self, who: usize, address: usize, kind: Kind, waits: bool) -> Result<(), Violation> {
        if address == 0 || who == 0 {
            return Ok(());
        }
        let Some(index) = self.entry(address) else {
            self.incomplete = true;
            return Ok(());
        };
        match self.locks[index].kind {
            Some(known) if known != kind => return Err(Violation::TakenOtherwise),
            _ => self.locks[index].kind = Some(kind),
        }
        let (held, count) = self.holder(who).map_or(([0; DEPTH], 0), |holder| (holder.held, holder.count));
        let held = &held[..count];
        let again = held.contains(&(index as u16));
        if again && kind != Kind::Mutex && waits {
            return Err(Violation::SelfDeadlock);
        }
        if waits && !again {
            for &before in held {
                let before = usize::from(before);
                if self.leads(index, before) {
                    return Err(Violation::Order);
                }
                self.locks[before].then[index / 64] |= 1 << (index % 64);
            }
        }
        self.hold(who, index as u16);
        Ok(())
    }

    fn hold(&mut self, who: usize, index: u16) {
        let place = self.holders.iter().position(|holder| holder.who == who);
        let place = place.or_else(|| self.holders.iter().position(|holder| holder.who == 0));
        match place.map(|place| &mut self.holders[place]) {
            Some(holder) if holder.count < DEPTH => {
                holder.who = who;
                holder.held[holder.count] = index;
                holder.count += 1;
            }
            _ => self.incomplete = true,
        }
    }

    /// `who` releases a lock; `falls` where the level falls to where threads can be switched.
    pub fn release(&mut self, who: usize, address: usize, kind: Kind, falls: bool) -> Result<(), Violation> {
        let not_held = |holder: Option<usize>| match holder {
            _ if self.incomplete => Ok(()),
            Some(holder) => Err(Violation::WrongHolder(holder)),
            None => Err(Violation::NotHeld),
        };
        if address == 0 {
            return Ok(());
        }
        let Some(index) = self.find(address) else { return not_held(None) };
        if self.locks[index].kind.is_some_and(|known| known != kind) {
            return Err(Violation::ReleasedOtherwise);
        }
        let is_index = |held: &u16| usize::from(*held) == index;
        let place = self.holders.iter().position(|holder| holder.who == who);
        let found =
            place.and_then(|place| Some((place, self.holders[place].locks().iter().rposition(is_index)?)));
        let Some((place, at)) = found else { return not_held(self.holder_of(index)) };
        if falls {
            let spins = |held: &&u16| {
                matches!(self.locks[usize::from(**held)].kind, Some(Kind::Spin | Kind::QueuedSpin))
            };
            let later = self.holders[place].locks()[at + 1..].iter().rfind(spins);
            if let Some(&later) = later {
                return Err(Violation::ReleasedBefore(self.locks[usize::from(later)].address));
            }
        }
        let holder = &mut self.holders[place];
        holder.held.copy_within(at + 1..holder.count, at);
        holder.count -= 1;
        if holder.count == 0 {
            *holder = FREE_HOLDER;
        }
        Ok(())
    }

    /// A lock is initialized.
    pub fn initialize(&mut self, address: usize) -> Result<(), Violation> {
        match self.find(address).filter(|_| address != 0) {
            Some(_) => Err(Violation::InitializedAgain),
            None => {
                self.entry(address);
                Ok(())
            }
        }
    }

    /// One of the locks that `who` holds.
    pub fn held_by(&self, who: usize) -> Option<usize> {
        let last = *self.holder(who)?.locks().last()?;
        Some(self.locks[usize::from(last)].address)
    }

    /// A lock in this memory that is held, and by whom.
    pub fn held_in(&self, memory: core::ops::Range<usize>) -> Option<(usize, usize)> {
        let inside = self.locks.iter().enumerate().filter(|(_, lock)| memory.contains(&lock.address));
        inside.filter_map(|(index, lock)| Some((lock.address, self.holder_of(index)?))).next()
    }

    /// The memory goes: its locks are forgotten, and what order they had.
    pub fn forget(&mut self, memory: core::ops::Range<usize>) {
        for index in 0..LOCKS {
            if self.locks[index].address == 0 || !memory.contains(&self.locks[index].address) {
                continue;
            }
            self.locks[index] = FREE_LOCK;
            for lock in &mut self.locks {
                lock.then[index / 64] &= !(1 << (index % 64));
            }
            for holder in self.holders.iter_mut().filter(|holder| holder.who != 0) {
                while let Some(at) = holder.locks().iter().position(|&held| usize::from(held) == index) {
                    holder.held.copy_within(at + 1..holder.count, at);
                    holder.count -= 1;
                }
                if holder.count == 0 {
                    *holder = FREE_HOLDER;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;

    use proptest::prelude::*;

    use super::*;

    const A: usize = 0x1000;
    const B: usize = 0x2000;
    const C: usize = 0x3000;
    const SPIN: Kind = Kind::Spin;

    fn order() -> Box<LockOrder> {
        Box::new(LockOrder::new())
    }

    #[test]
    fn opposite_orders_are_told_on_another_day_and_by_another_thread() {
        let mut order = order();
        order.take(1, A, SPIN, true).unwrap();
        order.take(1, B, SPIN, true).unwrap();
        order.release(1, B, SPIN, false).unwrap();
        order.release(1, A, SPIN, true).unwrap();
        order.take(2, B, SPIN, true).unwrap();
        assert_eq!(order.take(2, A, SPIN, true), Err(Violation::Order));
    }

    #[test]
    fn a_circle_of_three_is_one_too() {
        let mut order = order();
        for (first, second) in [(A, B), (B, C)] {
            order.take(1, first, SPIN, true).unwrap();
            order.take(1, second, SPIN, true).unwrap();
            order.release(1, second, SPIN, false).unwrap();
            order.release(1, first, SPIN, true).unwrap();
        }
        order.take(1, C, SPIN, true).unwrap();
        // Trying cannot deadlock.
        assert_eq!(order.take(1, A, SPIN, false), Ok(()));
        order.release(1, A, SPIN, false).unwrap();
        assert_eq!(order.take(1, A, SPIN, true), Err(Violation::Order));
    }

    #[test]
    fn only_a_mutex_is_taken_again() {
        let mut order = order();
        order.take(1, A, SPIN, true).unwrap();
        assert_eq!(order.take(1, A, SPIN, true), Err(Violation::SelfDeadlock));
        order.take(1, B, Kind::Mutex, true).unwrap();
        order.take(1, B, Kind::Mutex, true).unwrap();
        order.release(1, B, Kind::Mutex, false).unwrap();
        order.release(1, B, Kind::Mutex, false).unwrap();
        assert_eq!(order.release(1, B, Kind::Mutex, false), Err(Violation::NotHeld));
    }

    #[test]
    fn releases_are_the_holders_own_and_of_the_same_kind() {
        let mut order = order();
        assert_eq!(order.release(1, A, SPIN, true), Err(Violation::NotHeld));
        order.take(1, A, SPIN, true).unwrap();
        assert_eq!(order.release(2, A, SPIN, true), Err(Violation::WrongHolder(1)));
        assert_eq!(order.release(1, A, Kind::QueuedSpin, true), Err(Violation::ReleasedOtherwise));
        order.release(1, A, SPIN, true).unwrap();
        assert_eq!(order.take(1, A, Kind::QueuedSpin, true), Err(Violation::TakenOtherwise));
    }

    #[test]
    fn the_outer_lock_may_go_first_only_while_the_level_stays() {
        let mut order = order();
        order.take(1, A, SPIN, true).unwrap();
        order.take(1, B, SPIN, true).unwrap();
        assert_eq!(order.release(1, A, SPIN, true), Err(Violation::ReleasedBefore(B)));
        order.release(1, A, SPIN, false).unwrap();
        order.release(1, B, SPIN, true).unwrap();
    }

    #[test]
    fn memory_that_goes_takes_its_locks_and_their_order_along() {
        let mut order = order();
        order.take(1, A, SPIN, true).unwrap();
        order.take(1, B, SPIN, true).unwrap();
        assert_eq!(order.held_in(B..B + 8), Some((B, 1)));
        assert_eq!(order.held_by(1), Some(B));
        order.forget(B..B + 8);
        assert_eq!(order.held_by(1), Some(A));
        order.release(1, A, SPIN, true).unwrap();
        order.take(1, B, SPIN, true).unwrap();
        assert_eq!(order.take(1, A, SPIN, true), Ok(()));
        assert_eq!(order.initialize(A), Err(Violation::InitializedAgain));
        assert_eq!(order.initialize(C), Ok(()));
    }

    proptest! {
        /// Whoever takes locks by ascending address and gives them back is never accused, however many there are.
        #[test]
        fn one_order_is_always_right(
            sets in prop::collection::vec((1_usize..5, prop::collection::btree_set(1_usize..400, 1..12)), 1..60)
        ) {
            let mut order = order();
            for (who, locks) in sets {
                for lock in &locks {
                    prop_assert_eq!(order.take(who, lock * 8, SPIN, true), Ok(()));
                }
                for lock in locks.iter().rev() {
                    prop_assert_eq!(order.release(who, lock * 8, SPIN, false), Ok(()));
                }
            }
        }
    }
}

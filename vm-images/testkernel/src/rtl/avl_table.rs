//! Generic tables whose tree is balanced: `RTL_AVL_TABLE`.
//!
//! An AVL tree: of each node, the heights of its two subtrees differ by one at most, and the node keeps which is higher. So looking
//! something up changes nothing, and takes no longer than the logarithm of how much there is. The tree hangs below
//! `BalancedRoot`, a node without data whose right child is the root, and whose parent is itself.
//!
//! The table belongs to the driver, memory and order of the elements too; nothing here locks.

use core::mem::offset_of;
use core::ptr;

use super::generic_table::{EMPTY_TREE, FOUND, GREATER, INSERT_LEFT, INSERT_RIGHT, LESS, put};
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE, NTSTATUS, PVOID, STATUS_NO_MATCH, STATUS_SUCCESS, TRUE};
use crate::selftest::{check, kernel_test};

/// `RTL_BALANCED_LINKS`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Links {
    parent: *mut Links,
    left: *mut Links,
    right: *mut Links,
    /// Height of the right subtree less that of the left: -1, 0 or 1.
    balance: i8,
    reserved: [u8; 3],
}

/// An element's data follow its links.
const DATA: usize = size_of::<Links>();

type Compare = unsafe extern "win64" fn(table: *mut AvlTable, first: PVOID, second: PVOID) -> u32;
type Allocate = unsafe extern "win64" fn(table: *mut AvlTable, bytes: u32) -> PVOID;
type Free = unsafe extern "win64" fn(table: *mut AvlTable, buffer: PVOID);
type Match = unsafe extern "win64" fn(table: *mut AvlTable, data: PVOID, context: PVOID) -> NTSTATUS;

/// `RTL_AVL_TABLE`.
#[derive(Debug)]
#[repr(C)]
pub struct AvlTable {
    root: Links,
    /// The element that was last asked for by its place, and the place, from 1; 0 for none.
    ordered: *mut Links,
    which: u32,
    count: u32,
    depth: u32,
    /// Where RtlEnumerateGenericTableAvl stands.
    restart: *mut Links,
    deletions: u32,
    compare: Compare,
    allocate: Allocate,
    free: Free,
    context: PVOID,
}

const _: () = {
    assert!(DATA == 0x20 && size_of::<AvlTable>() == 0x68);
    assert!(offset_of!(AvlTable, ordered) == 0x20 && offset_of!(AvlTable, restart) == 0x38);
    assert!(offset_of!(AvlTable, compare) == 0x48 && offset_of!(AvlTable, context) == 0x60);
};

fn data(links: *mut Links) -> PVOID {
    links.wrapping_byte_add(DATA).cast()
}

/// 1 for a right child, -1 for a left one.
///
/// # Safety
/// Everywhere below: links are those of a tree that nobody else changes meanwhile.
unsafe fn side(node: *mut Links) -> i8 {
    // SAFETY: the caller's contract.
    unsafe { if (*(*node).parent).left == node { -1 } else { 1 } }
}

unsafe fn child(node: *mut Links, side: i8) -> *mut Links {
    // SAFETY: the caller's contract.
    unsafe { if side < 0 { (*node).left } else { (*node).right } }
}

unsafe fn set_child(node: *mut Links, side: i8, child: *mut Links) {
    // SAFETY: the caller's contract.
    unsafe {
        if side < 0 {
            (*node).left = child;
        } else {
            (*node).right = child;
        }
        if !child.is_null() {
            (*child).parent = node;
        }
    }
}

/// Turns `node` and its parent over, so that `node` is above. Balances are the caller's.
unsafe fn promote(node: *mut Links) {
    // SAFETY: the caller's contract: the parent is a node of the tree.
    unsafe {
        let parent = (*node).parent;
        let (above, parents_side, own_side) = ((*parent).parent, side(parent), side(node));
        set_child(parent, own_side, child(node, -own_side));
        set_child(node, -own_side, parent);
        set_child(above, parents_side, node);
    }
}

/// Rights `node`, whose higher side has just become too high. Whether all of it is less high now than it was.
unsafe fn right(node: *mut Links) -> bool {
    // SAFETY: the caller's contract.
    unsafe {
        let heavy = (*node).balance;
        let below = child(node, heavy);
        if (*below).balance == -heavy {
            let middle = child(below, -heavy);
            promote(middle);
            promote(middle);
            (*node).balance = if (*middle).balance == heavy { -heavy } else { 0 };
            (*below).balance = if (*middle).balance == -heavy { heavy } else { 0 };
            (*middle).balance = 0;
            return true;
        }
        promote(below);
        if (*below).balance == heavy {
            (*node).balance = 0;
            (*below).balance = 0;
            return true;
        }
        (*below).balance = -heavy;
        false
    }
}

/// What is to be done after `node` has come into the tree.
unsafe fn grown(table: *mut AvlTable, mut node: *mut Links) {
    // SAFETY: the caller's contract.
    unsafe {
        let top = &raw mut (*table).root;
        loop {
            let (parent, side) = ((*node).parent, side(node));
            if parent == top {
                (*table).depth += 1;
                return;
            }
            if (*parent).balance == -side {
                (*parent).balance = 0;
                return;
            }
            if (*parent).balance == side {
                right(parent);
                return;
            }
            (*parent).balance = side;
            node = parent;
        }
    }
}

/// What is to be done after that side of `node` has become less high.
unsafe fn shrunk(table: *mut AvlTable, mut node: *mut Links, mut shorter: i8) {
    // SAFETY: the caller's contract.
    unsafe {
        let top = &raw mut (*table).root;
        while node != top {
            if (*node).balance == shorter {
                (*node).balance = 0;
            } else if (*node).balance == 0 {
                (*node).balance = -shorter;
                return;
            } else {
                if !right(node) {
                    return;
                }
                node = (*node).parent;
            }
            shorter = side(node);
            node = (*node).parent;
        }
        (*table).depth -= 1;
    }
}

/// Takes `node` out of the tree.
unsafe fn take_out(table: *mut AvlTable, node: *mut Links) {
    // SAFETY: the caller's contract.
    unsafe {
        // Who goes from its place: the node itself, or its neighbour by order, which has a child at most.
        let leaver = if (*node).left.is_null() || (*node).right.is_null() {
            node
        } else if (*node).balance >= 0 {
            outermost((*node).right, -1)
        } else {
            outermost((*node).left, 1)
        };
        let (parent, leavers_side) = ((*leaver).parent, side(leaver));
        let heir = if (*leaver).left.is_null() { (*leaver).right } else { (*leaver).left };
        set_child(parent, leavers_side, heir);
        shrunk(table, parent, leavers_side);
        if leaver != node {
            let (above, its_side) = ((*node).parent, side(node));
            (*leaver).balance = (*node).balance;
            set_child(leaver, -1, (*node).left);
            set_child(leaver, 1, (*node).right);
            set_child(above, its_side, leaver);
        }
    }
}

/// The last node on that side, or null.
unsafe fn outermost(mut node: *mut Links, side: i8) -> *mut Links {
    // SAFETY: the caller's contract.
    unsafe {
        while !node.is_null() && !child(node, side).is_null() {
            node = child(node, side);
        }
        node
    }
}

/// The next node on that side by order, or null.
unsafe fn neighbour(mut node: *mut Links, direction: i8) -> *mut Links {
    // SAFETY: the caller's contract. Above the root is a node that is its own parent.
    unsafe {
        if !child(node, direction).is_null() {
            return outermost(child(node, direction), -direction);
        }
        while (*(*node).parent).parent != (*node).parent {
            let came_from = side(node);
            node = (*node).parent;
            if came_from == -direction {
                return node;
            }
        }
        ptr::null_mut()
    }
}

unsafe fn first(table: *mut AvlTable) -> *mut Links {
    // SAFETY: the caller's contract.
    unsafe { outermost((*table).root.right, -1) }
}

/// Where data are or would be: the last node on the way, and how it compares.
unsafe fn find(table: *mut AvlTable, wanted: PVOID) -> (*mut Links, u32) {
    // SAFETY: the caller's contract; the owner's routine.
    unsafe {
        let mut node = (*table).root.right;
        if node.is_null() {
            return (node, EMPTY_TREE);
        }
        loop {
            let (next, result) = match ((*table).compare)(table, wanted, data(node)) {
                LESS => ((*node).left, INSERT_LEFT),
                GREATER => ((*node).right, INSERT_RIGHT),
                _ => return (node, FOUND),
            };
            if next.is_null() {
                return (node, result);
            }
            node = next;
        }
    }
}

unsafe fn data_or_null(node: *mut Links) -> PVOID {
    if node.is_null() { ptr::null_mut() } else { data(node) }
}

export! {
    /// *RtlInitializeGenericTableAvl function (ntddk.h)*: an empty one.
    pub unsafe extern "win64" fn RtlInitializeGenericTableAvl(
        table: *mut AvlTable,
        compare: Compare,
        allocate: Allocate,
        free: Free,
        context: PVOID,
    ) {
        let none = ptr::null_mut();
        // SAFETY: the caller's storage.
        unsafe {
            let top = &raw mut (*table).root;
            table.write(AvlTable {
                root: Links { parent: top, left: none, right: none, balance: 0, reserved: [0; 3] },
                ordered: none,
                which: 0,
                count: 0,
                depth: 0,
                restart: none,
                deletions: 0,
                compare,
                allocate,
                free,
                context,
            });
        }
    }

    /// *RtlLookupElementGenericTableFullAvl*: also where the element is, or would be.
    pub unsafe extern "win64" fn RtlLookupElementGenericTableFullAvl(
        table: *mut AvlTable,
        wanted: PVOID,
        node: *mut *mut Links,
        result: *mut u32,
    ) -> PVOID {
        // SAFETY: the caller's table and storage.
        unsafe {
            let (place, found) = find(table, wanted);
            node.write(place);
            result.write(found);
            if found == FOUND { data(place) } else { ptr::null_mut() }
        }
    }

    /// *RtlLookupElementGenericTableAvl function (ntddk.h)*: null where there is none like it.
    pub unsafe extern "win64" fn RtlLookupElementGenericTableAvl(table: *mut AvlTable, wanted: PVOID) -> PVOID {
        // SAFETY: the caller's table.
        let (node, result) = unsafe { find(table, wanted) };
        if result == FOUND { data(node) } else { ptr::null_mut() }
    }

    /// *RtlLookupFirstMatchingElementGenericTableAvl function (ntddk.h)*: of several that compare equal the first, and where
    /// an enumeration goes on from there.
    pub unsafe extern "win64" fn RtlLookupFirstMatchingElementGenericTableAvl(
        table: *mut AvlTable,
        wanted: PVOID,
        key: *mut *mut Links,
    ) -> PVOID {
        // SAFETY: the caller's table and storage.
        unsafe {
            let (mut node, FOUND) = find(table, wanted) else { return ptr::null_mut() };
            loop {
                let before = neighbour(node, -1);
                if before.is_null() || matches!(((*table).compare)(table, wanted, data(before)), LESS | GREATER) {
                    break;
                }
                node = before;
            }
            key.write(node);
            data(node)
        }
    }

    /// *RtlInsertElementGenericTableFullAvl*: where a lookup has said.
    pub unsafe extern "win64" fn RtlInsertElementGenericTableFullAvl(
        table: *mut AvlTable,
        element: PVOID,
        size: u32,
        is_new: *mut BOOLEAN,
        place: *mut Links,
        result: u32,
    ) -> PVOID {
        // SAFETY: the caller's table, and data of that size; the owner's memory is as large as was asked for.
        unsafe {
            put(is_new, FALSE);
            if result == FOUND {
                return data(place);
            }
            let Some(bytes) = size.checked_add(DATA as u32) else { return ptr::null_mut() };
            let node = ((*table).allocate)(table, bytes).cast::<Links>();
            if node.is_null() {
                return ptr::null_mut();
            }
            put(is_new, TRUE);
            let none = ptr::null_mut();
            node.write(Links { parent: none, left: none, right: none, balance: 0, reserved: [0; 3] });
            match result {
                INSERT_LEFT => set_child(place, -1, node),
                INSERT_RIGHT => set_child(place, 1, node),
                _ => set_child(&raw mut (*table).root, 1, node),
            }
            grown(table, node);
            element.cast::<u8>().copy_to_nonoverlapping(data(node).cast(), size as usize);
            (*table).count += 1;
            (*table).which = 0;
            (*table).ordered = none;
            data(node)
        }
    }

    /// *RtlInsertElementGenericTableAvl function (ntddk.h)*: the element, new or the one that was there; null without memory.
    pub unsafe extern "win64" fn RtlInsertElementGenericTableAvl(
        table: *mut AvlTable,
        element: PVOID,
        size: u32,
        is_new: *mut BOOLEAN,
    ) -> PVOID {
        // SAFETY: the caller's table and data.
        unsafe {
            let (place, result) = find(table, element);
            RtlInsertElementGenericTableFullAvl(table, element, size, is_new, place, result)
        }
    }

    /// *RtlDeleteElementGenericTableAvl function (ntddk.h)*: FALSE where there is none like it. An enumeration that stands at it
    /// steps back.
    pub unsafe extern "win64" fn RtlDeleteElementGenericTableAvl(table: *mut AvlTable, wanted: PVOID) -> BOOLEAN {
        // SAFETY: the caller's table; the element is given back to its owner as it came.
        unsafe {
            let (node, FOUND) = find(table, wanted) else { return FALSE };
            if (*table).restart == node {
                (*table).restart = neighbour(node, -1);
            }
            take_out(table, node);
            (*table).deletions = (*table).deletions.wrapping_add(1);
            (*table).count -= 1;
            (*table).which = 0;
            (*table).ordered = ptr::null_mut();
            ((*table).free)(table, node.cast());
            TRUE
        }
    }

    /// *RtlEnumerateGenericTableWithoutSplayingAvl function (ntddk.h)*: the first, or the next by order; the caller keeps where it
    /// stands.
    pub unsafe extern "win64" fn RtlEnumerateGenericTableWithoutSplayingAvl(
        table: *mut AvlTable,
        key: *mut *mut Links,
    ) -> PVOID {
        // SAFETY: the caller's table, and its key: null, or what this gave.
        unsafe {
            let next = if (*key).is_null() { first(table) } else { neighbour(*key, 1) };
            if !next.is_null() {
                key.write(next);
            }
            data_or_null(next)
        }
    }

    /// *RtlEnumerateGenericTableAvl function (ntddk.h)*: the same, and the table keeps it.
    pub unsafe extern "win64" fn RtlEnumerateGenericTableAvl(table: *mut AvlTable, restart: BOOLEAN) -> PVOID {
        // SAFETY: the caller's table.
        unsafe {
            if restart != FALSE {
                (*table).restart = ptr::null_mut();
            }
            RtlEnumerateGenericTableWithoutSplayingAvl(table, &raw mut (*table).restart)
        }
    }

    /// *RtlEnumerateGenericTableLikeADirectory function (ntddk.h)*: from a given element on, the next that matches. Where something
    /// was deleted meanwhile, the place is found again by the element's data.
    pub unsafe extern "win64" fn RtlEnumerateGenericTableLikeADirectory(
        table: *mut AvlTable,
        matches: Option<Match>,
        context: PVOID,
        next: u32,
        key: *mut *mut Links,
        deletions: *mut u32,
        from: PVOID,
    ) -> PVOID {
        // SAFETY: the caller's table, routine and storage.
        unsafe {
            let mut step = next != 0;
            if *deletions != (*table).deletions {
                key.write(ptr::null_mut());
            }
            let mut node = *key;
            if node.is_null() {
                let (place, result) = find(table, from);
                node = match result {
                    FOUND => place,
                    INSERT_RIGHT => neighbour(place, 1),
                    _ => place,
                };
                step &= result == FOUND;
            }
            if step && !node.is_null() {
                node = neighbour(node, 1);
            }
            while !node.is_null() {
                match matches.map_or(STATUS_SUCCESS, |matches| matches(table, data(node), context)) {
                    STATUS_SUCCESS => break,
                    STATUS_NO_MATCH => node = neighbour(node, 1),
                    _ => return ptr::null_mut(),
                }
            }
            if !node.is_null() {
                key.write(node);
                deletions.write((*table).deletions);
            }
            data_or_null(node)
        }
    }

    /// *RtlGetElementGenericTableAvl function (ntddk.h)*: element `index` by order, from 0; null beyond.
    pub unsafe extern "win64" fn RtlGetElementGenericTableAvl(table: *mut AvlTable, index: u32) -> PVOID {
        // SAFETY: the caller's table.
        unsafe {
            if index >= (*table).count {
                return ptr::null_mut();
            }
            let known = (*table).which;
            let (mut node, start) =
                if known > 0 && known - 1 <= index { ((*table).ordered, known - 1) } else { (first(table), 0) };
            for _ in start..index {
                node = neighbour(node, 1);
            }
            (*table).ordered = node;
            (*table).which = index + 1;
            data(node)
        }
    }

    /// *RtlNumberGenericTableElementsAvl function (ntddk.h)*.
    pub unsafe extern "win64" fn RtlNumberGenericTableElementsAvl(table: *const AvlTable) -> u32 {
        // SAFETY: the caller's table.
        unsafe { (*table).count }
    }

    /// *RtlIsGenericTableEmptyAvl function (ntddk.h)*.
    pub unsafe extern "win64" fn RtlIsGenericTableEmptyAvl(table: *const AvlTable) -> BOOLEAN {
        // SAFETY: the caller's table.
        (unsafe { (*table).count } == 0).into()
    }
}

/// Height of a subtree whose balances, parents and order are as they should be; none where they are not.
unsafe fn height(node: *mut Links) -> Option<i32> {
    if node.is_null() {
        return Some(0);
    }
    // SAFETY: a tree of the test's own.
    unsafe {
        let (left, right) = ((*node).left, (*node).right);
        let is_mine = |child: *mut Links| child.is_null() || (*child).parent == node;
        let (lower, higher) = (height(left)?, height(right)?);
        let good = is_mine(left) && is_mine(right) && higher - lower == i32::from((*node).balance);
        (good && (-1..=1).contains(&(*node).balance)).then_some(1 + lower.max(higher))
    }
}

kernel_test! {
    fn a_balanced_tree_stays_balanced_whatever_comes_and_goes() {
        unsafe extern "win64" fn compare(_: *mut AvlTable, first: PVOID, second: PVOID) -> u32 {
            // SAFETY: both are elements of the test's table.
            match unsafe { first.cast::<u64>().read().cmp(&second.cast::<u64>().read()) } {
                core::cmp::Ordering::Less => LESS,
                core::cmp::Ordering::Greater => GREATER,
                core::cmp::Ordering::Equal => 2,
            }
        }
        unsafe extern "win64" fn allocate(_: *mut AvlTable, bytes: u32) -> PVOID {
            crate::ex::pool::allocate_zeroed(bytes as usize, *b"lvaT")
                .map_or(ptr::null_mut(), |block| block.as_ptr().cast())
        }
        unsafe extern "win64" fn free(_: *mut AvlTable, buffer: PVOID) {
            crate::ex::pool::free(buffer.addr(), 0);
        }
        let mut table = core::mem::MaybeUninit::<AvlTable>::uninit();
        let table = table.as_mut_ptr();
        // SAFETY: the table is a local, initialized first and emptied last.
        unsafe {
            RtlInitializeGenericTableAvl(table, compare, allocate, free, ptr::null_mut());
            let mut number = 1u64;
            for round in 0..3000u64 {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let mut key = number >> 32 & 255;
                let element = (&raw mut key).cast();
                let before = (*table).count;
                if number & (1 << 62) == 0 {
                    let mut is_new = FALSE;
                    check!(!RtlInsertElementGenericTableAvl(table, element, 8, &raw mut is_new).is_null());
                    check!((*table).count == before + u32::from(is_new));
                } else {
                    let gone = RtlDeleteElementGenericTableAvl(table, element);
                    check!((*table).count == before - u32::from(gone));
                }
                let tall = height((*table).root.right);
                check!(tall == Some((*table).depth as i32));
                check!(round < 100 || (*table).depth <= 12);
            }
            let mut last = None;
            let mut next = RtlEnumerateGenericTableAvl(table, TRUE).cast::<u64>();
            while !next.is_null() {
                check!(last < Some(*next));
                last = Some(*next);
                check!(RtlDeleteElementGenericTableAvl(table, next.cast()) == TRUE);
                next = RtlEnumerateGenericTableAvl(table, FALSE).cast();
            }
            check!(RtlIsGenericTableEmptyAvl(table) == TRUE && (*table).depth == 0);
        }
    }
}

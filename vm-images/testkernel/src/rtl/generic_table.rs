//! Generic tables: ordered sets whose elements' memory and order are their owner's affair.
//!
//! Two kinds with one interface. Elements of a splay table carry links of three pointers and a place in a list by the order of
//! insertion, those of an AVL table ([`super::avl_table`]) links with a balance; the owner's data follow. What a driver gets is the
//! address of its data. Nothing here locks: the owner does.
//!
//! Both keep the headers' structures. The splay table's tree is rearranged at each access, as its documentation says; that
//! makes reading a change, which is why its enumeration by key without splaying exists.

use core::mem::offset_of;
use core::ptr;

use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE, LIST_ENTRY, PVOID, TRUE};

/// `GenericLessThan` of `RTL_GENERIC_COMPARE_RESULTS`.
pub(super) const LESS: u32 = 0;
/// `GenericGreaterThan`.
pub(super) const GREATER: u32 = 1;

/// `TableEmptyTree` of `TABLE_SEARCH_RESULT`.
pub(super) const EMPTY_TREE: u32 = 0;
/// `TableFoundNode`.
pub(super) const FOUND: u32 = 1;
/// `TableInsertAsLeft`.
pub(super) const INSERT_LEFT: u32 = 2;
/// `TableInsertAsRight`.
pub(super) const INSERT_RIGHT: u32 = 3;

/// `RTL_SPLAY_LINKS`: the root's parent is itself.
#[derive(Debug)]
#[repr(C)]
pub struct Splay {
    parent: *mut Splay,
    left: *mut Splay,
    right: *mut Splay,
}

/// What precedes an element's data in a splay table.
#[repr(C)]
struct SplayElement {
    links: Splay,
    order: LIST_ENTRY,
}

const SPLAY_DATA: usize = size_of::<SplayElement>();

type Compare<T> = unsafe extern "win64" fn(table: *mut T, first: PVOID, second: PVOID) -> u32;
type Allocate<T> = unsafe extern "win64" fn(table: *mut T, bytes: u32) -> PVOID;
type Free<T> = unsafe extern "win64" fn(table: *mut T, buffer: PVOID);

/// `RTL_GENERIC_TABLE`.
#[derive(Debug)]
#[repr(C)]
pub struct GenericTable {
    root: *mut Splay,
    order: LIST_ENTRY,
    ordered: *mut LIST_ENTRY,
    which: u32,
    count: u32,
    compare: Compare<GenericTable>,
    allocate: Allocate<GenericTable>,
    free: Free<GenericTable>,
    context: PVOID,
}

const _: () = {
    assert!(size_of::<GenericTable>() == 0x48);
    assert!(offset_of!(GenericTable, compare) == 0x28);
    assert!(SPLAY_DATA == 0x28);
};

fn splay_data(links: *mut Splay) -> PVOID {
    links.wrapping_byte_add(SPLAY_DATA).cast()
}

/// Everywhere below.
///
/// # Safety
/// Links are those of a tree that nobody else changes meanwhile.
unsafe fn replace_child(parent: *mut Splay, old: *mut Splay, new: *mut Splay) {
    // SAFETY: the caller's contract.
    unsafe {
        if (*parent).left == old {
            (*parent).left = new;
        } else {
            (*parent).right = new;
        }
    }
}

/// Turns `node` and its parent over, so that `node` is above.
unsafe fn rotate(node: *mut Splay) {
    // SAFETY: the caller's contract: `node` is not the root.
    unsafe {
        let parent = (*node).parent;
        let above = (*parent).parent;
        if (*parent).left == node {
            let moved = (*node).right;
            (*parent).left = moved;
            if !moved.is_null() {
                (*moved).parent = parent;
            }
            (*node).right = parent;
        } else {
            let moved = (*node).left;
            (*parent).right = moved;
            if !moved.is_null() {
                (*moved).parent = parent;
            }
            (*node).left = parent;
        }
        if above == parent {
            (*node).parent = node;
        } else {
            replace_child(above, parent, node);
            (*node).parent = above;
        }
        (*parent).parent = node;
    }
}

unsafe fn splay(node: *mut Splay) -> *mut Splay {
    // SAFETY: the caller's contract.
    unsafe {
        loop {
            let parent = (*node).parent;
            if parent == node {
                return node;
            }
            let above = (*parent).parent;
            if above != parent {
                let same_side = ((*parent).left == node) == ((*above).left == parent);
                rotate(if same_side { parent } else { node });
            }
            rotate(node);
        }
    }
}

unsafe fn leftmost(mut node: *mut Splay) -> *mut Splay {
    // SAFETY: the caller's contract.
    unsafe {
        while !node.is_null() && !(*node).left.is_null() {
            node = (*node).left;
        }
        node
    }
}

unsafe fn rightmost(mut node: *mut Splay) -> *mut Splay {
    // SAFETY: the caller's contract.
    unsafe {
        while !node.is_null() && !(*node).right.is_null() {
            node = (*node).right;
        }
        node
    }
}

/// The next node by order, or null.
unsafe fn successor(mut node: *mut Splay) -> *mut Splay {
    // SAFETY: the caller's contract.
    unsafe {
        if !(*node).right.is_null() {
            return leftmost((*node).right);
        }
        while (*node).parent != node {
            let parent = (*node).parent;
            if (*parent).left == node {
                return parent;
            }
            node = parent;
        }
        ptr::null_mut()
    }
}

unsafe fn predecessor(mut node: *mut Splay) -> *mut Splay {
    // SAFETY: the caller's contract.
    unsafe {
        if !(*node).left.is_null() {
            return rightmost((*node).left);
        }
        while (*node).parent != node {
            let parent = (*node).parent;
            if (*parent).right == node {
                return parent;
            }
            node = parent;
        }
        ptr::null_mut()
    }
}

/// Takes a node out of its tree; gives the new root.
unsafe fn delete(node: *mut Splay) -> *mut Splay {
    // SAFETY: the caller's contract.
    unsafe {
        splay(node);
        let (left, right) = ((*node).left, (*node).right);
        for child in [left, right] {
            if !child.is_null() {
                (*child).parent = child;
            }
        }
        if left.is_null() {
            return right;
        }
        let root = splay(rightmost(left));
        (*root).right = right;
        if !right.is_null() {
            (*right).parent = root;
        }
        root
    }
}

/// Puts `new`, or nothing, where `old` is below its parent, or as the root.
unsafe fn exchange(old: *mut Splay, new: *mut Splay, root: *mut *mut Splay) {
    // SAFETY: the caller's contract.
    unsafe {
        let parent = (*old).parent;
        if parent == old {
            root.write(new);
        } else {
            replace_child(parent, old, new);
        }
        if !new.is_null() {
            (*new).parent = if parent == old { new } else { parent };
        }
    }
}

/// Where data are or would be: the last node on the way, and how it compares.
unsafe fn find(table: *mut GenericTable, data: PVOID) -> (*mut Splay, u32) {
    // SAFETY: the caller's contract; the owner's routine.
    unsafe {
        let mut node = (*table).root;
        if node.is_null() {
            return (node, EMPTY_TREE);
        }
        loop {
            let (next, result) = match ((*table).compare)(table, data, splay_data(node)) {
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

/// # Safety
/// `to` must be null or have room.
pub(super) unsafe fn put(to: *mut u8, value: BOOLEAN) {
    if !to.is_null() {
        // SAFETY: the caller gives storage or null.
        unsafe { to.write(value) };
    }
}

export! {
    /// *RtlInitializeGenericTable function (ntddk.h)*: an empty one.
    pub unsafe extern "win64" fn RtlInitializeGenericTable(
        table: *mut GenericTable,
        compare: Compare<GenericTable>,
        allocate: Allocate<GenericTable>,
        free: Free<GenericTable>,
        context: PVOID,
    ) {
        // SAFETY: the caller's storage.
        unsafe {
            let order = &raw mut (*table).order;
            table.write(GenericTable {
                root: ptr::null_mut(),
                order: LIST_ENTRY { Flink: order, Blink: order },
                ordered: order,
                which: 0,
                count: 0,
                compare,
                allocate,
                free,
                context,
            });
        }
    }

    /// *RtlLookupElementGenericTableFull*: also where the element is, or would be.
    pub unsafe extern "win64" fn RtlLookupElementGenericTableFull(
        table: *mut GenericTable,
        data: PVOID,
        node: *mut *mut Splay,
        result: *mut u32,
    ) -> PVOID {
        // SAFETY: the caller's table and storage.
        unsafe {
            let (place, found) = find(table, data);
            node.write(place);
            result.write(found);
            if found != FOUND {
                return ptr::null_mut();
            }
            (*table).root = splay(place);
            splay_data(place)
        }
    }

    /// *RtlLookupElementGenericTable function (ntddk.h)*: null where there is none like it.
    pub unsafe extern "win64" fn RtlLookupElementGenericTable(table: *mut GenericTable, data: PVOID) -> PVOID {
        let (mut node, mut result) = (ptr::null_mut(), 0);
        // SAFETY: the caller's table.
        unsafe { RtlLookupElementGenericTableFull(table, data, &raw mut node, &raw mut result) }
    }

    /// *RtlInsertElementGenericTableFull*: where a lookup has said.
    pub unsafe extern "win64" fn RtlInsertElementGenericTableFull(
        table: *mut GenericTable,
        data: PVOID,
        size: u32,
        is_new: *mut BOOLEAN,
        place: *mut Splay,
        result: u32,
    ) -> PVOID {
        // SAFETY: the caller's table, and data of that size; the owner's memory is as large as was asked for.
        unsafe {
            if result == FOUND {
                put(is_new, FALSE);
                (*table).root = splay(place);
                return splay_data(place);
            }
            put(is_new, FALSE);
            let Some(bytes) = size.checked_add(SPLAY_DATA as u32) else { return ptr::null_mut() };
            let element = ((*table).allocate)(table, bytes).cast::<SplayElement>();
            if element.is_null() {
                return ptr::null_mut();
            }
            put(is_new, TRUE);
            let links = &raw mut (*element).links;
            let parent = if result == EMPTY_TREE { links } else { place };
            links.write(Splay { parent, left: ptr::null_mut(), right: ptr::null_mut() });
            match result {
                INSERT_LEFT => (*place).left = links,
                INSERT_RIGHT => (*place).right = links,
                _ => {}
            }
            crate::ke::list::insert_before(&raw mut (*table).order, &raw mut (*element).order);
            data.cast::<u8>().copy_to_nonoverlapping(splay_data(links).cast(), size as usize);
            (*table).count += 1;
            (*table).root = splay(links);
            splay_data(links)
        }
    }

    /// *RtlInsertElementGenericTable function (ntddk.h)*: the element, new or the one that was there; null without memory.
    pub unsafe extern "win64" fn RtlInsertElementGenericTable(
        table: *mut GenericTable,
        data: PVOID,
        size: u32,
        is_new: *mut BOOLEAN,
    ) -> PVOID {
        // SAFETY: the caller's table and data.
        unsafe {
            let (place, result) = find(table, data);
            RtlInsertElementGenericTableFull(table, data, size, is_new, place, result)
        }
    }

    /// *RtlDeleteElementGenericTable function (ntddk.h)*: FALSE where there is none like it.
    pub unsafe extern "win64" fn RtlDeleteElementGenericTable(table: *mut GenericTable, data: PVOID) -> BOOLEAN {
        // SAFETY: the caller's table; the element is given back to its owner as it came.
        unsafe {
            let (node, FOUND) = find(table, data) else { return FALSE };
            (*table).root = delete(node);
            crate::ke::list::remove(&raw mut (*node.cast::<SplayElement>()).order);
            (*table).count -= 1;
            (*table).which = 0;
            (*table).ordered = &raw mut (*table).order;
            ((*table).free)(table, node.cast());
            TRUE
        }
    }

    /// *RtlEnumerateGenericTable function (ntddk.h)*: the first, or the next by order; null at the end.
    pub unsafe extern "win64" fn RtlEnumerateGenericTable(table: *mut GenericTable, restart: BOOLEAN) -> PVOID {
        // SAFETY: the caller's table.
        unsafe {
            if (*table).root.is_null() {
                return ptr::null_mut();
            }
            let next = if restart != FALSE { leftmost((*table).root) } else { successor((*table).root) };
            if next.is_null() {
                return ptr::null_mut();
            }
            (*table).root = splay(next);
            splay_data(next)
        }
    }

    /// *RtlEnumerateGenericTableWithoutSplaying function (ntddk.h)*: the same, and the caller keeps where it stands.
    pub unsafe extern "win64" fn RtlEnumerateGenericTableWithoutSplaying(
        table: *mut GenericTable,
        key: *mut PVOID,
    ) -> PVOID {
        // SAFETY: the caller's table, and its key: null, or what this gave.
        unsafe {
            if (*table).root.is_null() {
                return ptr::null_mut();
            }
            let next = if (*key).is_null() { leftmost((*table).root) } else { successor((*key).cast()) };
            if next.is_null() {
                return ptr::null_mut();
            }
            key.write(next.cast());
            splay_data(next)
        }
    }

    /// *RtlGetElementGenericTable function (ntddk.h)*: element `index` by the order of insertion, from 0; null beyond.
    pub unsafe extern "win64" fn RtlGetElementGenericTable(table: *mut GenericTable, index: u32) -> PVOID {
        // SAFETY: the caller's table.
        unsafe {
            if index >= (*table).count {
                return ptr::null_mut();
            }
            let mut link = (*table).order.Flink;
            for _ in 0..index {
                link = (*link).Flink;
            }
            (*table).ordered = link;
            (*table).which = index + 1;
            splay_data(link.wrapping_byte_sub(offset_of!(SplayElement, order)).cast())
        }
    }

    /// *RtlNumberGenericTableElements function (ntddk.h)*.
    pub unsafe extern "win64" fn RtlNumberGenericTableElements(table: *const GenericTable) -> u32 {
        // SAFETY: the caller's table.
        unsafe { (*table).count }
    }

    /// *RtlIsGenericTableEmpty function (ntddk.h)*.
    pub unsafe extern "win64" fn RtlIsGenericTableEmpty(table: *const GenericTable) -> BOOLEAN {
        // SAFETY: the caller's table.
        unsafe { (*table).root.is_null() }.into()
    }

    /// *RtlSplay function (ntddk.h)*: makes the node the root.
    pub unsafe extern "win64" fn RtlSplay(links: *mut Splay) -> *mut Splay {
        // SAFETY: the caller's tree.
        unsafe { splay(links) }
    }

    /// *RtlDelete function (ntddk.h)*: takes a node out, and gives the root.
    pub unsafe extern "win64" fn RtlDelete(links: *mut Splay) -> *mut Splay {
        // SAFETY: the caller's tree.
        unsafe { delete(links) }
    }

    /// *RtlDeleteNoSplay function (ntddk.h)*: takes a node out of the tree of that root, which stays as it is otherwise.
    pub unsafe extern "win64" fn RtlDeleteNoSplay(links: *mut Splay, root: *mut *mut Splay) {
        // SAFETY: the caller's tree, and where its root is kept.
        unsafe {
            // With two children its place is its predecessor's, which has one at most.
            let leaver = if (*links).left.is_null() || (*links).right.is_null() { links } else { rightmost((*links).left) };
            let heir = if (*leaver).left.is_null() { (*leaver).right } else { (*leaver).left };
            exchange(leaver, heir, root);
            if leaver != links {
                let Splay { left, right, .. } = *links;
                exchange(links, leaver, root);
                (*leaver).left = left;
                (*leaver).right = right;
                for child in [left, right] {
                    if !child.is_null() {
                        (*child).parent = leaver;
                    }
                }
            }
        }
    }

    /// *RtlRealSuccessor function (ntddk.h)*: the next node of the tree.
    pub unsafe extern "win64" fn RtlRealSuccessor(links: *mut Splay) -> *mut Splay {
        // SAFETY: the caller's tree.
        unsafe { successor(links) }
    }

    /// *RtlRealPredecessor function (ntddk.h)*: the node before.
    pub unsafe extern "win64" fn RtlRealPredecessor(links: *mut Splay) -> *mut Splay {
        // SAFETY: the caller's tree.
        unsafe { predecessor(links) }
    }

    /// *RtlSubtreeSuccessor function (ntddk.h)*: the next node below this one.
    pub unsafe extern "win64" fn RtlSubtreeSuccessor(links: *mut Splay) -> *mut Splay {
        // SAFETY: the caller's tree.
        unsafe { leftmost((*links).right) }
    }

    /// *RtlSubtreePredecessor function (ntddk.h)*: the node before, below this one.
    pub unsafe extern "win64" fn RtlSubtreePredecessor(links: *mut Splay) -> *mut Splay {
        // SAFETY: the caller's tree.
        unsafe { rightmost((*links).left) }
    }
}

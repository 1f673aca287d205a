//! The system's one name space: `\Device`, `\Driver`, and the symbolic links that programs see.

use squall_testkernel_pure::namespace::{NameError, Namespace};

use crate::ke::lock::SpinLock;
use crate::nt::{
    NTSTATUS, STATUS_INSUFFICIENT_RESOURCES, STATUS_OBJECT_NAME_COLLISION, STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_OBJECT_PATH_NOT_FOUND, STATUS_OBJECT_PATH_SYNTAX_BAD, STATUS_OBJECT_TYPE_MISMATCH,
};

/// Objects are known by their addresses; `None` until first used.
static NAMES: SpinLock<Option<Namespace<usize>>> = SpinLock::new(None);

/// Does something with the name space, under its lock.
pub fn with<R>(action: impl FnOnce(&mut Namespace<usize>) -> R) -> R {
    action(NAMES.lock().get_or_insert_default())
}

/// How an error is told to a driver.
pub fn status_of(error: NameError) -> NTSTATUS {
    match error {
        NameError::Malformed => STATUS_OBJECT_PATH_SYNTAX_BAD,
        NameError::PathNotFound => STATUS_OBJECT_PATH_NOT_FOUND,
        NameError::NotFound => STATUS_OBJECT_NAME_NOT_FOUND,
        NameError::Collision => STATUS_OBJECT_NAME_COLLISION,
        NameError::WrongKind => STATUS_OBJECT_TYPE_MISMATCH,
        NameError::Full => STATUS_INSUFFICIENT_RESOURCES,
    }
}

//! The export table, which gathers itself.
//!
//! A routine that drivers may import is declared where it is written, inside [`export!`]; a datum inside
//! [`export_data!`]. Each leaves an [`Export`] in the link section `.squall.exports`, which the linker script keeps
//! together between two symbols. No list of names exists anywhere, so none can lag behind the code.
//!
//! Windows spreads the kernel's exports over two files. Since Windows 10 version 2004 the HAL is part of the
//! kernel image and `HAL.dll` only forwards to it, so a HAL routine answers to both names; the kernel's own
//! routines answer to `ntoskrnl.exe` only.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, Ordering};

/// The file that drivers import a name from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// `ntoskrnl.exe`.
    Ntoskrnl,
    /// `HAL.dll`.
    Hal,
}

impl Module {
    /// The module that an import descriptor names, whatever its case.
    pub fn from_dll_name(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("ntoskrnl.exe") {
            Some(Self::Ntoskrnl)
        } else if name.eq_ignore_ascii_case("hal.dll") {
            Some(Self::Hal)
        } else {
            None
        }
    }
}

/// One exported name.
#[derive(Debug)]
#[repr(C)]
pub struct Export {
    module: Module,
    name: &'static str,
    /// The type of what the routine returns, as it is written; empty for nothing and for data.
    result: &'static str,
    address: *const c_void,
}

// SAFETY: an `Export` is immutable, and `address` is only compared and handed out, never dereferenced here.
unsafe impl Sync for Export {}

impl Export {
    /// What [`export!`] places in the table.
    pub const fn new(
        module: Module,
        name: &'static str,
        result: &'static str,
        address: *const c_void,
    ) -> Self {
        Self { module, name, result, address }
    }

    /// The name that drivers import.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The type of what the routine returns, as its declaration writes it.
    pub fn result(&self) -> &'static str {
        self.result
    }

    /// Where it is.
    pub fn address(&self) -> *const c_void {
        self.address
    }
}

unsafe extern "C" {
    #[link_name = "__squall_exports_start"]
    static EXPORTS_START: u8;
    #[link_name = "__squall_exports_end"]
    static EXPORTS_END: u8;
}

/// Every export of the guest.
fn table() -> &'static [Export] {
    let start = (&raw const EXPORTS_START).cast::<Export>();
    let end = (&raw const EXPORTS_END).cast::<Export>();
    let count = (end.addr() - start.addr()) / size_of::<Export>();
    // SAFETY: the linker script puts nothing but the statics that `export!` and `export_data!` make, all of them
    // `Export`s, between the two symbols, aligned for them.
    unsafe { core::slice::from_raw_parts(start, count) }
}

/// The same by name, sorted when it is first wanted: a driver asks for a hundred names, each time that it is loaded.
fn by_name() -> &'static [&'static Export] {
    static SORTED: AtomicPtr<Vec<&'static Export>> = AtomicPtr::new(core::ptr::null_mut());
    // SAFETY: once stored, it lives for ever and is not changed.
    if let Some(sorted) = unsafe { SORTED.load(Ordering::Acquire).as_ref() } {
        return sorted;
    }
    let mut sorted: Vec<&'static Export> = table().iter().collect();
    sorted.sort_unstable_by_key(|export| export.name);
    let sorted = Box::into_raw(Box::new(sorted));
    match SORTED.compare_exchange(core::ptr::null_mut(), sorted, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: nobody frees it.
        Ok(_) => unsafe { &*sorted },
        Err(theirs) => {
            // SAFETY: made above, and known to nobody else.
            drop(unsafe { Box::from_raw(sorted) });
            // SAFETY: stored by another processor, for ever.
            unsafe { &*theirs }
        }
    }
}

/// The export `name` of `module`, for the loader.
pub fn lookup(module: Module, name: &str) -> Option<&'static Export> {
    let sorted = by_name();
    let first = sorted.partition_point(|export| export.name < name);
    let mut called_so = sorted[first..].iter().take_while(|export| export.name == name);
    let forwarded = |export: &Export| module == Module::Ntoskrnl && export.module == Module::Hal;
    called_so.find(|export| export.module == module || forwarded(export)).copied()
}

/// Declares routines that drivers import, from `ntoskrnl.exe` unless `in HAL;` is said first.
///
/// ```ignore
/// export! {
///     /// *KeFoo function (wdm.h)*: what of its documentation is kept.
///     pub unsafe extern "win64" fn KeFoo(argument: u32) -> NTSTATUS { ... }
/// }
/// ```
macro_rules! export {
    (in HAL; $($rest:tt)*) => { $crate::ldr::export::export! { @emit Hal; $($rest)* } };
    (@emit $module:ident; $(
        $(#[$meta:meta])*
        pub unsafe extern "win64" fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block
    )*) => { $(
        $(#[$meta])*
        #[allow(non_snake_case, reason = "the name that drivers import")]
        #[allow(clippy::missing_safety_doc, reason = "the page that the documentation cites says what callers owe")]
        pub unsafe extern "win64" fn $name($($argument: $type),*) $(-> $result)? $body

        const _: () = {
            #[used]
            #[unsafe(link_section = ".squall.exports")]
            static EXPORT: $crate::ldr::export::Export = $crate::ldr::export::Export::new(
                $crate::ldr::export::Module::$module,
                stringify!($name),
                stringify!($($result)?),
                $name as *const core::ffi::c_void,
            );
        };
    )* };
    ($($rest:tt)*) => { $crate::ldr::export::export! { @emit Ntoskrnl; $($rest)* } };
}
pub(crate) use export;

/// Declares that drivers import the datum `$static` under the name `$name`.
macro_rules! export_data {
    ($($name:ident => $static:path;)*) => { $(
        const _: () = {
            #[used]
            #[unsafe(link_section = ".squall.exports")]
            static EXPORT: $crate::ldr::export::Export = $crate::ldr::export::Export::new(
                $crate::ldr::export::Module::Ntoskrnl,
                stringify!($name),
                "",
                (&raw const $static).cast(),
            );
        };
    )* };
}
pub(crate) use export_data;

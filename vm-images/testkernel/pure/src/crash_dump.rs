//! The forms that Windows' crash dumps are made of.
//!
//! QEMU writes a dump in Windows' own format (`dump-guest-memory` with `win-dmp`) once the guest has shown it a
//! [`Header`] by way of the vmcoreinfo device. From the header a debugger goes to the [`DebuggerData`] block, from
//! there to the lists of loaded and unloaded images and to each processor's [`Context`]. All of them live in guest
//! memory at virtual addresses that the dump's page tables translate.
//!
//! Layouts: `DUMP_HEADER64` and `KDDEBUGGER_DATA64` of *wdbgexts.h*, `CONTEXT` of *winnt.h* for x64, the rest as
//! debuggers read them. What this guest has nothing to say about stays 0, which debuggers take for absent.

use core::mem::offset_of;

/// A page of memory.
const PAGE: u64 = 4096;

/// `CONTEXT`: the registers of a processor.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are the registers")]
pub struct Context {
    pub home: [u64; 6],
    /// Which parts are valid: [`Context::VALID`].
    pub flags: u32,
    pub mxcsr: u32,
    pub cs: u16,
    pub ds: u16,
    pub es: u16,
    pub fs: u16,
    pub gs: u16,
    pub ss: u16,
    pub eflags: u32,
    pub debug: [u64; 6],
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rbx: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    /// Floating point, vector and debugging state.
    pub extended: [u8; 0x4D0 - 0x100],
}

impl Context {
    /// `CONTEXT_AMD64 | CONTEXT_CONTROL | CONTEXT_INTEGER | CONTEXT_SEGMENTS`.
    pub const VALID: u32 = 0x0010_0007;

    /// Registers that are all 0, none of them valid.
    pub const EMPTY: Self = Self {
        home: [0; 6],
        flags: 0,
        mxcsr: 0,
        cs: 0,
        ds: 0,
        es: 0,
        fs: 0,
        gs: 0,
        ss: 0,
        eflags: 0,
        debug: [0; 6],
        rax: 0,
        rcx: 0,
        rdx: 0,
        rbx: 0,
        rsp: 0,
        rbp: 0,
        rsi: 0,
        rdi: 0,
        r8: 0,
        r9: 0,
        r10: 0,
        r11: 0,
        r12: 0,
        r13: 0,
        r14: 0,
        r15: 0,
        rip: 0,
        extended: [0; 0x4D0 - 0x100],
    };

    /// Where XMM0 is in [`extended`](Self::extended), whose first 512 bytes are as FXSAVE writes them.
    const XMM: usize = 0xA0;

    /// General register `number`, as instructions number them: RAX is 0, RSP is 4.
    pub const fn register(&self, number: usize) -> u64 {
        match number & 15 {
            0 => self.rax,
            1 => self.rcx,
            2 => self.rdx,
            3 => self.rbx,
            4 => self.rsp,
            5 => self.rbp,
            6 => self.rsi,
            7 => self.rdi,
            8 => self.r8,
            9 => self.r9,
            10 => self.r10,
            11 => self.r11,
            12 => self.r12,
            13 => self.r13,
            14 => self.r14,
            _ => self.r15,
        }
    }

    /// Sets a general register.
    pub const fn set_register(&mut self, number: usize, value: u64) {
        *match number & 15 {
            0 => &mut self.rax,
            1 => &mut self.rcx,
            2 => &mut self.rdx,
            3 => &mut self.rbx,
            4 => &mut self.rsp,
            5 => &mut self.rbp,
            6 => &mut self.rsi,
            7 => &mut self.rdi,
            8 => &mut self.r8,
            9 => &mut self.r9,
            10 => &mut self.r10,
            11 => &mut self.r11,
            12 => &mut self.r12,
            13 => &mut self.r13,
            14 => &mut self.r14,
            _ => &mut self.r15,
        } = value;
    }

    /// XMM register `number`, its lower half first.
    pub fn xmm(&self, number: usize) -> [u64; 2] {
        let at = Self::XMM + 16 * (number & 15);
        [at, at + 8].map(|at| {
            self.extended[at..].first_chunk().map_or(0, |bytes: &[u8; 8]| u64::from_le_bytes(*bytes))
        })
    }

    /// Sets an XMM register.
    pub fn set_xmm(&mut self, number: usize, value: [u64; 2]) {
        let at = Self::XMM + 16 * (number & 15);
        for (at, half) in [at, at + 8].into_iter().zip(value) {
            self.extended[at..at + 8].copy_from_slice(&half.to_le_bytes());
        }
    }
}

const _: () = {
    assert!(offset_of!(Context, flags) == 0x30);
    assert!(offset_of!(Context, rax) == 0x78);
    assert!(offset_of!(Context, rip) == 0xF8);
    assert!(size_of::<Context>() == 0x4D0);
};

/// `PHYSICAL_MEMORY_RUN64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct MemoryRun {
    /// Number of the first page.
    pub first: u64,
    /// How many.
    pub count: u64,
}

/// As many runs of memory as a header has room for.
pub const MAX_RUNS: usize = 42;

/// `DUMP_HEADER64`: the first two pages of a dump.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Header {
    signature: [u8; 4],
    valid: [u8; 4],
    major_version: u32,
    minor_version: u32,
    directory_table_base: u64,
    pfn_database: u64,
    loaded_modules: u64,
    active_processes: u64,
    machine: u32,
    processors: u32,
    bugcheck_code: u32,
    reserved_0: u32,
    bugcheck_parameters: [u64; 4],
    version_user: [u8; 32],
    debugger_data: u64,
    run_count: u32,
    reserved_1: u32,
    page_count: u64,
    runs: [MemoryRun; MAX_RUNS],
    reserved_2: [u8; 704 - 16 - 16 * MAX_RUNS],
    context: Context,
    reserved_3: [u8; 0xF00 - 0x348 - 0x4D0],
    exception_code: u32,
    exception_flags: u32,
    exception_record: u64,
    exception_address: u64,
    exception_parameters: u32,
    reserved_4: u32,
    exception_information: [u64; 15],
    dump_type: u32,
    reserved_5: u32,
    required_space: u64,
    system_time: u64,
    comment: [u8; 128],
    up_time: u64,
    reserved_6: [u8; 0x2000 - 0x1038],
}

const _: () = {
    assert!(offset_of!(Header, bugcheck_code) == 0x38);
    assert!(offset_of!(Header, debugger_data) == 0x80);
    assert!(offset_of!(Header, run_count) == 0x88);
    assert!(offset_of!(Header, context) == 0x348);
    assert!(offset_of!(Header, exception_code) == 0xF00);
    assert!(offset_of!(Header, dump_type) == 0xF98);
    assert!(offset_of!(Header, required_space) == 0xFA0);
    assert!(offset_of!(Header, system_time) == 0xFA8);
    assert!(offset_of!(Header, up_time) == 0x1030);
    assert!(size_of::<Header>() == 0x2000);
};

/// `IMAGE_FILE_MACHINE_AMD64`.
const MACHINE_AMD64: u32 = 0x8664;
/// `DUMP_TYPE_FULL`: all of physical memory follows, run by run.
const DUMP_FULL: u32 = 1;
/// A free build, as `NtBuildNumber`'s upper half says.
const FREE_BUILD: u32 = 0xF;
/// `STATUS_BREAKPOINT`: what Windows says of a dump that no exception led to.
const STATUS_BREAKPOINT: u32 = 0x8000_0003;

/// What a header is made from while the system is well.
#[derive(Debug, Clone, Copy)]
pub struct System<'a> {
    /// The version's build number.
    pub build: u32,
    /// Physical address of the top page table.
    pub directory_table_base: u64,
    /// Virtual address of the loaded images' [`List`].
    pub loaded_modules: u64,
    /// Virtual address of the [`DebuggerData`].
    pub debugger_data: u64,
    /// How many processors run.
    pub processors: u32,
    /// Physical memory, in bytes: first and one past the last of each piece.
    pub memory: &'a [(u64, u64)],
}

impl Header {
    /// A header of nothing, to reserve memory with.
    pub const EMPTY: Self = Self {
        signature: [0; 4],
        valid: [0; 4],
        major_version: 0,
        minor_version: 0,
        directory_table_base: 0,
        pfn_database: 0,
        loaded_modules: 0,
        active_processes: 0,
        machine: 0,
        processors: 0,
        bugcheck_code: 0,
        reserved_0: 0,
        bugcheck_parameters: [0; 4],
        version_user: [0; 32],
        debugger_data: 0,
        run_count: 0,
        reserved_1: 0,
        page_count: 0,
        runs: [MemoryRun { first: 0, count: 0 }; MAX_RUNS],
        reserved_2: [0; 704 - 16 - 16 * MAX_RUNS],
        context: Context::EMPTY,
        reserved_3: [0; 0xF00 - 0x348 - 0x4D0],
        exception_code: 0,
        exception_flags: 0,
        exception_record: 0,
        exception_address: 0,
        exception_parameters: 0,
        reserved_4: 0,
        exception_information: [0; 15],
        dump_type: 0,
        reserved_5: 0,
        required_space: 0,
        system_time: 0,
        comment: [0; 128],
        up_time: 0,
        reserved_6: [0; 0x2000 - 0x1038],
    };

    /// Fills the header in for a system that has not crashed. Only whole pages of memory count, and only the first
    /// [`MAX_RUNS`] pieces.
    pub fn describe(&mut self, system: System<'_>) {
        self.signature = *b"PAGE";
        self.valid = *b"DU64";
        self.major_version = FREE_BUILD;
        self.minor_version = system.build;
        self.directory_table_base = system.directory_table_base;
        self.loaded_modules = system.loaded_modules;
        self.debugger_data = system.debugger_data;
        self.machine = MACHINE_AMD64;
        self.processors = system.processors;
        self.exception_code = STATUS_BREAKPOINT;
        self.dump_type = DUMP_FULL;
        let comment = b"squall embedded guest: not Windows";
        self.comment[..comment.len()].copy_from_slice(comment);
        let pages = |&(start, end): &(u64, u64)| {
            let first = start.div_ceil(PAGE);
            MemoryRun { first, count: (end / PAGE).saturating_sub(first) }
        };
        let runs = system.memory.iter().map(pages).filter(|run| run.count > 0);
        for (slot, run) in self.runs.iter_mut().zip(runs) {
            *slot = run;
            self.run_count += 1;
            self.page_count += run.count;
        }
        self.required_space = size_of::<Self>() as u64 + self.page_count * PAGE;
    }

    /// Adds what a bug check knows: its code and parameters, the registers where it struck, and the times since boot
    /// and since 1601, both in units of 100 ns.
    pub fn crash(&mut self, code: u32, parameters: [u64; 4], context: &Context, up_time: u64, time: u64) {
        self.bugcheck_code = code;
        self.bugcheck_parameters = parameters;
        self.context = *context;
        self.exception_address = context.rip;
        self.up_time = up_time;
        self.system_time = time;
    }
}

/// `VMCOREINFO_ELF_NOTE_HDR_SIZE`: what QEMU wants before the header, an ELF note's head with its name.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Note {
    name_size: u32,
    size: u32,
    kind: u32,
    name: [u8; 12],
    /// The header itself.
    pub header: Header,
}

impl Note {
    /// A note around a header of nothing.
    pub const EMPTY: Self = Self {
        name_size: 11,
        size: size_of::<Header>() as u32,
        kind: 0,
        name: *b"VMCOREINFO\0\0",
        header: Header::EMPTY,
    };
}

const _: () = assert!(size_of::<Note>() == 24 + 0x2000);

/// `LIST_ENTRY`: the virtual addresses of the next and of the previous.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "the page says it")]
pub struct List {
    pub next: u64,
    pub previous: u64,
}

/// `UNICODE_STRING`, its characters at a virtual address. Lengths are bytes.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "the page says it")]
pub struct Text {
    pub length: u16,
    pub maximum: u16,
    reserved: u32,
    pub address: u64,
}

impl Text {
    /// No characters.
    pub const EMPTY: Self = Self { length: 0, maximum: 0, reserved: 0, address: 0 };

    /// `length` bytes of characters at `address`.
    #[must_use]
    pub const fn at(address: u64, length: u16) -> Self {
        Self { length, maximum: length, reserved: 0, address }
    }
}

/// `LDR_DATA_TABLE_ENTRY` as far as debuggers need it: a loaded image.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are named after the structure's own")]
pub struct LoadedModule {
    pub load_order: List,
    pub memory_order: List,
    pub initialization_order: List,
    pub base: u64,
    pub entry_point: u64,
    pub size: u32,
    pub reserved: u32,
    pub full_name: Text,
    pub base_name: Text,
    pub flags: u32,
    pub load_count: u16,
    pub spare: u16,
    pub section: u64,
    pub rest: [u64; 5],
}

impl LoadedModule {
    /// No image.
    pub const EMPTY: Self = Self {
        load_order: List { next: 0, previous: 0 },
        memory_order: List { next: 0, previous: 0 },
        initialization_order: List { next: 0, previous: 0 },
        base: 0,
        entry_point: 0,
        size: 0,
        reserved: 0,
        full_name: Text::EMPTY,
        base_name: Text::EMPTY,
        flags: 0,
        load_count: 0,
        spare: 0,
        section: 0,
        rest: [0; 5],
    };
}

const _: () = {
    assert!(size_of::<LoadedModule>() == 0xA0);
    assert!(offset_of!(LoadedModule, flags) == 0x68);
    assert!(offset_of!(LoadedModule, base) == 0x30);
    assert!(offset_of!(LoadedModule, size) == 0x40);
    assert!(offset_of!(LoadedModule, full_name) == 0x48);
    assert!(offset_of!(LoadedModule, base_name) == 0x58);
};

/// As many unloaded images as Windows remembers: `MI_UNLOADED_DRIVERS`.
pub const MAX_UNLOADED: usize = 50;

/// `UNLOADED_DRIVERS`: an image that is gone.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct UnloadedModule {
    /// The file's name.
    pub name: Text,
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// When it went, in units of 100 ns since 1601; 0 where nobody noted it.
    pub time: u64,
}

impl UnloadedModule {
    /// No image.
    pub const EMPTY: Self = Self { name: Text::EMPTY, start: 0, end: 0, time: 0 };
}

const _: () = assert!(size_of::<UnloadedModule>() == 0x28);

/// `KDDEBUGGER_DATA64` as far as `OffsetPrcbContext`, which came with Windows 7: where a debugger finds the kernel's
/// own variables. Only what this guest has is given a name.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are named after the structure's own")]
pub struct DebuggerData {
    pub list: List,
    owner_tag: [u8; 4],
    size: u32,
    pub kern_base: u64,
    unused_20: [u64; 5],
    pub ps_loaded_module_list: u64,
    unused_50: [u64; 7],
    /// Address of five words: the code and the four parameters.
    pub ki_bugcheck_data: u64,
    unused_90: [u64; 16],
    unused_110: [u64; 33],
    /// Address of an array: each processor's control block.
    pub ki_processor_block: u64,
    /// Address of a pointer to an array of [`UnloadedModule`].
    pub mm_unloaded_drivers: u64,
    /// Address of a 32-bit number: where in that array the next will be put.
    pub mm_last_unloaded_driver: u64,
    unused_230: [u64; 13],
    unused_298: [u16; 14],
    pub offset_prcb_current_thread: u16,
    unused_2b6: [u16; 3],
    /// In a processor's control block, a whole [`Context`]: where it stood when the system stopped.
    pub offset_prcb_proc_state_context: u16,
    pub offset_prcb_number: u16,
    unused_2c0: [u16; 60],
    /// In a processor's control block, the address of a [`Context`], which QEMU fills as it writes the dump.
    pub offset_prcb_context: u16,
    unused_33a: [u16; 3],
}

const _: () = {
    assert!(offset_of!(DebuggerData, owner_tag) == 0x10);
    assert!(offset_of!(DebuggerData, ps_loaded_module_list) == 0x48);
    assert!(offset_of!(DebuggerData, ki_bugcheck_data) == 0x88);
    assert!(offset_of!(DebuggerData, ki_processor_block) == 0x218);
    assert!(offset_of!(DebuggerData, mm_unloaded_drivers) == 0x220);
    assert!(offset_of!(DebuggerData, mm_last_unloaded_driver) == 0x228);
    assert!(offset_of!(DebuggerData, offset_prcb_current_thread) == 0x2B4);
    assert!(offset_of!(DebuggerData, offset_prcb_proc_state_context) == 0x2BC);
    assert!(offset_of!(DebuggerData, offset_prcb_number) == 0x2BE);
    assert!(offset_of!(DebuggerData, offset_prcb_context) == 0x338);
};

impl DebuggerData {
    /// A block that leads nowhere, but for the tag by which debuggers know it.
    pub const EMPTY: Self = Self {
        list: List { next: 0, previous: 0 },
        owner_tag: *b"KDBG",
        size: size_of::<Self>() as u32,
        kern_base: 0,
        unused_20: [0; 5],
        ps_loaded_module_list: 0,
        unused_50: [0; 7],
        ki_bugcheck_data: 0,
        unused_90: [0; 16],
        unused_110: [0; 33],
        ki_processor_block: 0,
        mm_unloaded_drivers: 0,
        mm_last_unloaded_driver: 0,
        unused_230: [0; 13],
        unused_298: [0; 14],
        offset_prcb_current_thread: 0,
        unused_2b6: [0; 3],
        offset_prcb_proc_state_context: 0,
        offset_prcb_number: 0,
        unused_2c0: [0; 60],
        offset_prcb_context: 0,
        unused_33a: [0; 3],
    };
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn system(memory: &[(u64, u64)]) -> System<'_> {
        System {
            build: 19045,
            directory_table_base: 0x1000,
            loaded_modules: 1,
            debugger_data: 2,
            processors: 4,
            memory,
        }
    }

    #[test]
    fn memory_is_told_by_whole_pages() {
        let mut header = Header::EMPTY;
        header.describe(system(&[(0, 0x9_FC00), (0x10_0000, 0x400_0000), (0x500_0800, 0x500_1800)]));
        assert_eq!(header.run_count, 2);
        assert_eq!(header.runs[0], MemoryRun { first: 0, count: 0x9F });
        assert_eq!(header.runs[1], MemoryRun { first: 0x100, count: 0x3F00 });
        assert_eq!(header.page_count, 0x3F9F);
        assert_eq!(header.required_space, 0x2000 + 0x3F9F * 0x1000);
    }

    #[test]
    fn more_memory_than_there_is_room_for_is_left_out() {
        let pieces: Vec<_> = (0..100).map(|n| (n * 0x4000, n * 0x4000 + 0x1000)).collect();
        let mut header = Header::EMPTY;
        header.describe(system(&pieces));
        assert_eq!((header.run_count, header.page_count), (42, 42));
    }

    #[test]
    fn a_crash_is_told_where_debuggers_look() {
        let mut header = Header::EMPTY;
        header.crash(0xD1, [1, 2, 3, 4], &Context { rip: 0x1234, ..Context::EMPTY }, 10, 20);
        assert_eq!((header.bugcheck_code, header.bugcheck_parameters), (0xD1, [1, 2, 3, 4]));
        assert_eq!((header.context.rip, header.exception_address), (0x1234, 0x1234));
    }
}

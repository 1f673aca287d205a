//! Unwinding a frame: from a driver's function back to whoever called it, by the tables in the driver's image.
//!
//! On x64 the code itself says nothing of how to leave it. The image's exception directory (`.pdata`) lists every function
//! that has a frame; each entry leads to its *unwind information*: what the prolog did, so that it can be undone from
//! anywhere in the function, and the handler that wants to hear of exceptions. A function without an entry is a leaf: it has
//! changed no register that its caller relies on, and its return address is on top of the stack. (*x64 exception handling*,
//! of Microsoft's C++ documentation.)
//!
//! Image and stack are a driver's, and a broken one's often: everything is checked, and what makes no sense ends the walk.

use crate::crash_dump::Context;

/// Sizes of the chains of unwind information that are followed.
const MAX_CHAIN: usize = 32;
/// `UNW_FLAG_EHANDLER`: there is a handler for exceptions.
pub const EXCEPTION_HANDLER: u8 = 1;
/// `UNW_FLAG_UHANDLER`: there is a handler for unwinding.
pub const UNWIND_HANDLER: u8 = 2;
const CHAINED: u8 = 4;

/// An entry of the exception directory: addresses relative to the image's base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FunctionEntry {
    /// The function's first byte.
    pub begin: u32,
    /// One past its last.
    pub end: u32,
    /// Its unwind information.
    pub info: u32,
}

/// The handler of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handler {
    /// Its address, relative to the image's base.
    pub routine: u32,
    /// Where its own data are.
    pub data: u32,
}

/// What was found out of a frame by leaving it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// What its handlers and local variables are found by.
    pub establisher: u64,
    /// Its handler, where it has one of the kind asked for and was in its body.
    pub handler: Option<Handler>,
}

fn bytes<const N: usize>(image: &[u8], at: u32) -> Option<[u8; N]> {
    image.get(at as usize..)?.first_chunk().copied()
}

fn word(image: &[u8], at: u32) -> Option<u32> {
    bytes(image, at).map(u32::from_le_bytes)
}

fn entry_at(image: &[u8], at: u32) -> Option<FunctionEntry> {
    Some(FunctionEntry { begin: word(image, at)?, end: word(image, at + 4)?, info: word(image, at + 8)? })
}

/// Where an image's exception directory is: offset and bytes.
fn directory(image: &[u8]) -> Option<(u32, u32)> {
    let pe = word(image, 0x3C)?;
    let optional = pe.checked_add(24)?;
    // PE32+; NumberOfRvaAndSizes; the fourth directory.
    let is_plus = bytes(image, optional).map(u16::from_le_bytes)? == 0x20B;
    let count = word(image, optional.checked_add(108)?)?;
    let at = optional.checked_add(112 + 3 * 8)?;
    (is_plus && count > 3).then_some(())?;
    let (start, size) = (word(image, at)?, word(image, at + 4)?);
    (start != 0 && (start as usize).checked_add(size as usize)? <= image.len()).then_some((start, size))
}

/// Where the entry is of the function that `rva` lies in; none for a leaf. Entries are sorted.
pub fn lookup(image: &[u8], rva: u32) -> Option<(u32, FunctionEntry)> {
    let (start, size) = directory(image)?;
    let (mut low, mut high) = (0, size / 12);
    while low < high {
        let middle = low + (high - low) / 2;
        let at = start + middle * 12;
        let entry = entry_at(image, at)?;
        match rva {
            _ if rva < entry.begin => high = middle,
            _ if rva >= entry.end => low = middle + 1,
            // An odd word is not unwind information but leads to another entry.
            _ if entry.info & 1 != 0 => return Some((entry.info & !1, entry_at(image, entry.info & !1)?)),
            _ => return Some((at, entry)),
        }
    }
    None
}

/// Unwind information, its codes not read yet.
#[derive(Clone, Copy)]
struct Info {
    flags: u8,
    version: u8,
    prolog: u8,
    codes: u8,
    /// Number of the frame register; 0 where there is none.
    frame_register: u8,
    /// What was added to the stack pointer to make it.
    frame_offset: u64,
    at: u32,
}

impl Info {
    fn read(image: &[u8], at: u32) -> Option<Self> {
        let [first, prolog, codes, frame] = bytes(image, at)?;
        let (version, flags) = (first & 7, first >> 3);
        let info = Self {
            flags,
            version,
            prolog,
            codes,
            frame_register: frame & 15,
            frame_offset: u64::from(frame >> 4) * 16,
            at,
        };
        matches!(version, 1 | 2).then_some(info)
    }

    fn code(&self, image: &[u8], index: u8) -> Option<(u8, u8, u8)> {
        let [offset, operation] = bytes(image, self.at + 4 + 2 * u32::from(index))?;
        Some((offset, operation & 15, operation >> 4))
    }

    /// A 16-bit operand.
    fn short(&self, image: &[u8], index: u8) -> Option<u64> {
        bytes(image, self.at + 4 + 2 * u32::from(index)).map(|bytes| u16::from_le_bytes(bytes).into())
    }

    /// A 32-bit operand.
    fn long(&self, image: &[u8], index: u8) -> Option<u64> {
        word(image, self.at + 4 + 2 * u32::from(index)).map(u64::from)
    }

    /// What follows the codes.
    fn behind(&self) -> u32 {
        self.at + 4 + 2 * u32::from(self.codes).next_multiple_of(2)
    }
}

/// How many codes an operation takes.
fn slots(operation: u8, info: u8) -> Option<u8> {
    Some(match (operation, info) {
        (0 | 2 | 3 | 6 | 10, _) => 1,
        (1, 0) | (4 | 8, _) => 2,
        (1, 1) | (5 | 9, _) => 3,
        _ => return None,
    })
}

/// Leaves the frame that `context` is in: of the function `entry`, or of a leaf where there is none. `context` becomes that of the
/// caller. `read` gives the words of the stack. `kind` says which handlers are of interest.
///
/// None where tables or stack make no sense; `context` is of no use then.
pub fn leave(
    image: &[u8],
    base: u64,
    entry: Option<FunctionEntry>,
    kind: u8,
    context: &mut Context,
    read: &impl Fn(u64) -> Option<u64>,
) -> Option<Left> {
    let Some(mut entry) = entry else {
        let establisher = context.rsp;
        pop_return_address(context, read)?;
        return Some(Left { establisher, handler: None });
    };
    let rva = u32::try_from(context.rip.checked_sub(base)?).ok()?;
    let offset = rva.checked_sub(entry.begin)?;
    let mut info = Info::read(image, entry.info)?;
    let establisher = establisher(image, info, offset, context)?;
    let in_prolog = info.flags & CHAINED == 0 && offset < info.prolog.into();
    if !in_prolog && leave_epilog(image, rva, entry, info, context, read).is_some() {
        return Some(Left { establisher, handler: None });
    }
    let mut machine_frame = false;
    let mut handler = None;
    // Only the function's own prolog may be half done; those of a chain are whole.
    let mut reached = Some(offset);
    for _ in 0..MAX_CHAIN {
        machine_frame |= undo(image, info, reached, context, read)?;
        if info.flags & CHAINED == 0 {
            if info.flags & kind != 0 && !in_prolog {
                handler = Some(Handler { routine: word(image, info.behind())?, data: info.behind() + 4 });
            }
            if !machine_frame {
                pop_return_address(context, read)?;
            }
            return Some(Left { establisher, handler });
        }
        entry = entry_at(image, info.behind())?;
        info = Info::read(image, entry.info)?;
        reached = None;
    }
    None
}

fn pop_return_address(context: &mut Context, read: &impl Fn(u64) -> Option<u64>) -> Option<()> {
    context.rip = read(context.rsp)?;
    context.rsp = context.rsp.checked_add(8)?;
    Some(())
}

fn establisher(image: &[u8], info: Info, offset: u32, context: &Context) -> Option<u64> {
    if info.frame_register == 0 {
        return Some(context.rsp);
    }
    let by_register = context.register(info.frame_register.into()).wrapping_sub(info.frame_offset);
    if offset >= info.prolog.into() || info.flags & CHAINED != 0 {
        return Some(by_register);
    }
    // In the prolog: only once the register is set.
    let mut index = 0;
    while index < info.codes {
        let (at, operation, operand) = info.code(image, index)?;
        if operation == 3 && u32::from(at) <= offset {
            return Some(by_register);
        }
        index = index.checked_add(slots(operation, operand)?)?;
    }
    Some(context.rsp)
}

/// Undoes what the prolog did up to `reached`, or all of it; true where it was a machine frame, which holds all that a return
/// address would.
fn undo(
    image: &[u8],
    info: Info,
    reached: Option<u32>,
    context: &mut Context,
    read: &impl Fn(u64) -> Option<u64>,
) -> Option<bool> {
    let mut machine_frame = false;
    let mut index = 0;
    while index < info.codes {
        let (at, operation, operand) = info.code(image, index)?;
        let slots = slots(operation, operand)?;
        let next = index.checked_add(slots)?;
        if operation == 6 && info.version < 2 {
            return None;
        }
        if operation == 6 || reached.is_some_and(|reached| u32::from(at) > reached) {
            index = next;
            continue;
        }
        let frame = || context.rsp;
        match operation {
            0 => {
                let value = read(context.rsp)?;
                context.rsp = context.rsp.checked_add(8)?;
                context.set_register(operand.into(), value);
            }
            1 => {
                let size = if operand == 0 {
                    info.short(image, index + 1)? * 8
                } else {
                    info.long(image, index + 1)?
                };
                context.rsp = context.rsp.checked_add(size)?;
            }
            2 => context.rsp = context.rsp.checked_add(u64::from(operand) * 8 + 8)?,
            3 => context.rsp = context.register(info.frame_register.into()).wrapping_sub(info.frame_offset),
            4 | 5 => {
                let scaled = operation == 4;
                let offset =
                    if scaled { info.short(image, index + 1)? * 8 } else { info.long(image, index + 1)? };
                let value = read(frame().checked_add(offset)?)?;
                context.set_register(operand.into(), value);
            }
            8 | 9 => {
                let scaled = operation == 8;
                let offset =
                    if scaled { info.short(image, index + 1)? * 16 } else { info.long(image, index + 1)? };
                let from = frame().checked_add(offset)?;
                let value = [read(from)?, read(from.checked_add(8)?)?];
                context.set_xmm(operand.into(), value);
            }
            10 => {
                let from = context.rsp.checked_add(8 * u64::from(operand))?;
                context.rip = read(from)?;
                context.rsp = read(from.checked_add(24)?)?;
                machine_frame = true;
            }
            _ => return None,
        }
        index = next;
    }
    Some(machine_frame)
}

/// Where `rva` lies in an epilog, does what is left of that. Epilogs are known by their form: the stack pointer is put back,
/// registers are popped, and it returns or jumps away.
fn leave_epilog(
    image: &[u8],
    rva: u32,
    entry: FunctionEntry,
    info: Info,
    context: &mut Context,
    read: &impl Fn(u64) -> Option<u64>,
) -> Option<()> {
    let mut at = rva;
    let mut trial = *context;
    let byte = |at: u32| image.get(at as usize).copied();
    // add rsp, imm8 / imm32
    match bytes::<3>(image, at)? {
        [0x48, 0x83, 0xC4] => {
            trial.rsp = trial.rsp.wrapping_add(u64::from(byte(at + 3)?));
            at += 4;
        }
        [0x48, 0x81, 0xC4] => {
            trial.rsp = trial.rsp.wrapping_add(word(image, at + 3)?.into());
            at += 7;
        }
        // lea rsp, [frame register + disp8 / disp32]
        [rex @ (0x48 | 0x49), 0x8D, form] if info.frame_register != 0 && form >> 3 & 7 == 4 => {
            let register = form & 7 | (rex & 1) << 3;
            if register != info.frame_register || form & 7 == 4 {
                return None;
            }
            let from = trial.register(register.into());
            match form >> 6 {
                0 => (trial.rsp, at) = (from, at + 3),
                1 => {
                    (trial.rsp, at) =
                        (from.wrapping_add_signed(i64::from(byte(at + 3)?.cast_signed())), at + 4);
                }
                2 => {
                    let offset = i64::from(word(image, at + 3)?.cast_signed());
                    (trial.rsp, at) = (from.wrapping_add_signed(offset), at + 7);
                }
                _ => return None,
            }
        }
        _ => {}
    }
    for _ in 0..16 {
        let (register, length) = match (byte(at)?, byte(at + 1)?) {
            (pop @ 0x58..=0x5F, _) => (pop - 0x58, 1),
            (0x41, pop @ 0x58..=0x5F) => (pop - 0x58 + 8, 2),
            _ => break,
        };
        let value = read(trial.rsp)?;
        trial.rsp = trial.rsp.checked_add(8)?;
        trial.set_register(register.into(), value);
        at += length;
    }
    let leaves = match (byte(at)?, byte(at + 1).unwrap_or(0)) {
        (0xC3 | 0xC2, _) | (0xF3, 0xC3) | (0xFF, 0x25) => true,
        // jmp rax and its like, by a register
        (0x48, 0xFF) => byte(at + 2)? >> 3 & 7 == 4,
        // A jump out of the function.
        (0xEB, near) => !holds(entry, (at + 2).checked_add_signed(near.cast_signed().into())?),
        (0xE9, _) => !holds(entry, (at + 5).checked_add_signed(word(image, at + 1)?.cast_signed())?),
        _ => false,
    };
    if !leaves {
        return None;
    }
    pop_return_address(&mut trial, read)?;
    *context = trial;
    Some(())
}

fn holds(entry: FunctionEntry, rva: u32) -> bool {
    (entry.begin..entry.end).contains(&rva)
}

/// One scope of `__C_specific_handler`'s table: `__try` with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// First address of the guarded code.
    pub begin: u32,
    /// One past the last.
    pub end: u32,
    /// The filter, 1 for "take every exception"; of a `__finally` its code.
    pub routine: u32,
    /// Where the `__except` block begins; 0 for a `__finally`.
    pub target: u32,
}

impl Scope {
    /// Scope `index` of the table at `data`.
    pub fn read(image: &[u8], data: u32, index: u32) -> Option<Self> {
        let count = word(image, data)?;
        let at = data.checked_add(4)?.checked_add(index.checked_mul(16)?)?;
        (index < count).then_some(())?;
        Some(Self {
            begin: word(image, at)?,
            end: word(image, at + 4)?,
            routine: word(image, at + 8)?,
            target: word(image, at + 12)?,
        })
    }

    /// Whether the code at `rva` is guarded by it.
    pub fn guards(&self, rva: u32) -> bool {
        (self.begin..self.end).contains(&rva)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const BASE: u64 = 0xffff_f800_0000_0000;
    const STACK: u64 = 0x1000;

    /// An image with one function at 0x200..0x300 and its unwind information at 0x400.
    fn image(info: &[u8], code: &[(usize, &[u8])]) -> Vec<u8> {
        let mut image = vec![0x90; 0x600];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x3C, &0x80u32.to_le_bytes());
        put(0x98, &0x20Bu16.to_le_bytes());
        put(0x98 + 108, &16u32.to_le_bytes());
        put(0x98 + 112 + 24, &[0x500u32.to_le_bytes(), 12u32.to_le_bytes()].concat());
        put(0x500, &[0x200u32.to_le_bytes(), 0x300u32.to_le_bytes(), 0x400u32.to_le_bytes()].concat());
        put(0x400, info);
        code.iter().for_each(|(at, bytes)| put(*at, bytes));
        image
    }

    fn at(rva: u64, rsp: u64) -> Context {
        Context { rip: BASE + rva, rsp, ..Context::EMPTY }
    }

    /// The word at an address is the address plus one.
    fn read(address: u64) -> Option<u64> {
        (0x1000..0x9000).contains(&address).then_some(address + 1)
    }

    fn leave_from(image: &[u8], context: &mut Context) -> Option<Left> {
        let entry = lookup(image, (context.rip - BASE) as u32).map(|(_, entry)| entry);
        leave(image, BASE, entry, EXCEPTION_HANDLER, context, &read)
    }

    /// push rbx (at 1); sub rsp, 0x28 (at 5): the codes are in reverse order.
    const PUSH_AND_ALLOCATE: [u8; 8] = [0x01, 5, 2, 0, 5, 0x42, 1, 0x30];

    #[test]
    fn a_body_is_left_by_undoing_the_whole_prolog() {
        let image = image(&PUSH_AND_ALLOCATE, &[]);
        let mut context = at(0x250, STACK);
        let left = leave_from(&image, &mut context).unwrap();
        assert_eq!(left, Left { establisher: STACK, handler: None });
        assert_eq!((context.rbx, context.rip, context.rsp), (STACK + 0x29, STACK + 0x31, STACK + 0x38));
    }

    #[test]
    fn a_prolog_is_undone_as_far_as_it_got() {
        let image = image(&PUSH_AND_ALLOCATE, &[]);
        let mut context = at(0x200, STACK);
        leave_from(&image, &mut context).unwrap();
        assert_eq!((context.rbx, context.rip), (0, STACK + 1));
        let mut context = at(0x201, STACK);
        leave_from(&image, &mut context).unwrap();
        assert_eq!((context.rbx, context.rip), (STACK + 1, STACK + 9));
    }

    #[test]
    fn an_epilog_is_left_by_doing_the_rest_of_it() {
        // add rsp, 0x28; pop rbx; ret
        let image = image(&PUSH_AND_ALLOCATE, &[(0x280, &[0x48, 0x83, 0xC4, 0x28, 0x5B, 0xC3])]);
        for (rva, rbx, rip) in
            [(0x280, STACK + 0x29, STACK + 0x31), (0x284, STACK + 1, STACK + 9), (0x285, 0, STACK + 1)]
        {
            let mut context = at(rva, STACK);
            assert_eq!(leave_from(&image, &mut context).unwrap().handler, None);
            assert_eq!((context.rbx, context.rip), (rbx, rip), "at {rva:#x}");
        }
    }

    #[test]
    fn a_frame_register_finds_the_frame_whatever_the_stack_pointer_is() {
        // push rbp; lea rbp, [rsp+0x20]; the body allocates more.
        let info = [0x01, 6, 2, 0x25, 6, 0x03, 1, 0x50];
        let image = image(&info, &[]);
        let mut context = at(0x250, STACK);
        context.rbp = STACK + 0x420;
        let left = leave_from(&image, &mut context).unwrap();
        assert_eq!(left.establisher, STACK + 0x400);
        assert_eq!((context.rbp, context.rip), (STACK + 0x401, STACK + 0x409));
    }

    #[test]
    fn saved_registers_come_back_and_handlers_are_named() {
        // sub rsp, 0x68; mov [rsp+0x20], rdi; movaps [rsp+0x30], xmm6
        let info = [0x09, 14, 5, 0, 14, 0x68, 3, 0, 9, 0x74, 4, 0, 4, 0xC2, 0, 0, 0x10, 2, 0, 0, 1, 0, 0, 0];
        let image = image(&info, &[]);
        let mut context = at(0x250, STACK);
        let left = leave_from(&image, &mut context).unwrap();
        assert_eq!(left.handler, Some(Handler { routine: 0x210, data: 0x414 }));
        assert_eq!((context.rdi, context.rip), (STACK + 0x21, STACK + 0x69));
        assert_eq!(context.xmm(6), [STACK + 0x31, STACK + 0x39]);
    }

    #[test]
    fn a_leaf_has_its_return_address_on_top() {
        let image = image(&PUSH_AND_ALLOCATE, &[]);
        let mut context = at(0x310, STACK);
        leave_from(&image, &mut context).unwrap();
        assert_eq!((context.rip, context.rsp), (STACK + 1, STACK + 8));
        let mut context = at(0x310, 0x9000);
        assert_eq!(leave_from(&image, &mut context), None, "no stack there");
    }

    #[test]
    fn scopes_are_read_within_their_count() {
        let mut image = vec![0; 0x100];
        image[0x20] = 1;
        image[0x24..0x34].copy_from_slice(&[1, 0, 0, 0, 9, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]);
        let scope = Scope::read(&image, 0x20, 0).unwrap();
        assert_eq!(scope, Scope { begin: 1, end: 9, routine: 3, target: 4 });
        assert!(scope.guards(8) && !scope.guards(9));
        assert_eq!(Scope::read(&image, 0x20, 1), None);
    }

    proptest! {
        #[test]
        fn nothing_in_an_image_or_a_stack_panics(
            info in prop::collection::vec(any::<u8>(), 64),
            code in prop::collection::vec(any::<u8>(), 16),
            rva in 0x200u64..0x300,
            rsp in any::<u64>(),
        ) {
            let image = image(&info, &[(rva as usize, &code)]);
            let mut context = at(rva, rsp);
            let _ = leave_from(&image, &mut context);
            let mut context = at(rva, STACK);
            let _ = leave_from(&image, &mut context);
            let _ = Scope::read(&info, 0, u32::from(code[0]));
        }
    }
}

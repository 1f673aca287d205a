//! `DbgPrint`'s formatting: the C library's, as the kernel has it.
//!
//! Beside the usual conversions the kernel knows counted strings (`%Z`, `%wZ`), wide ones (`%S`, `%ws`, `%ls`) and the
//! size prefixes `I64`, `I32` and `I`; it has no floating point. Arguments come as words, eight bytes each on x64.
//! Drivers print from their ISRs too, so nothing here allocates, and what a pointer leads to is read through a
//! [`Source`], which knows what may be read: a bad pointer is shown, never followed. What is said goes to a [`Sink`]:
//! a [`Line`] of the console, or the buffer of `sprintf` and its like.

use core::fmt::{self, Write};

/// `DbgPrint` passes at most this many bytes on.
pub const MAX_OUTPUT: usize = 512;
/// The widest field or precision; of more, nothing would be seen.
const MAX_WIDTH: usize = MAX_OUTPUT;
/// The largest number in a format that is told from larger ones.
const MAX_NUMBER: usize = 1 << 20;

/// Where the arguments and the memory behind them come from.
pub trait Source {
    /// The next argument's eight bytes.
    fn word(&mut self) -> u64;
    /// The byte at `address`, if it can be read.
    fn byte(&self, address: u64) -> Option<u8>;
}

/// Where the text goes.
pub trait Sink {
    /// One more character; what does not fit is counted or dropped.
    fn put(&mut self, letter: char);
    /// Whether more would be lost, so that the rest need not be formatted.
    fn is_full(&self) -> bool;
    /// The widest field, precision or string that is of any use.
    fn limit(&self) -> usize;
}

/// The width of a format's characters, and so of the strings that `%s` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Bytes: `sprintf`, `DbgPrint`.
    Narrow,
    /// UTF-16: `swprintf`.
    Wide,
}

/// What was printed: UTF-8, cut at [`MAX_OUTPUT`] bytes, without control characters but newline and tab.
pub struct Line {
    bytes: [u8; MAX_OUTPUT],
    length: usize,
    full: bool,
}

impl Line {
    const fn new() -> Self {
        Self { bytes: [0; MAX_OUTPUT], length: 0, full: false }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Only whole characters were stored.
        core::str::from_utf8(&self.bytes[..self.length]).unwrap_or("")
    }
}

impl Sink for Line {
    fn put(&mut self, letter: char) {
        let letter = match letter {
            '\n' | '\t' => letter,
            '\r' => return,
            letter if letter.is_control() => '?',
            letter => letter,
        };
        let mut encoded = [0; 4];
        let encoded = letter.encode_utf8(&mut encoded).as_bytes();
        match self.bytes.get_mut(self.length..self.length + encoded.len()) {
            Some(place) if !self.full => {
                place.copy_from_slice(encoded);
                self.length += encoded.len();
            }
            _ => self.full = true,
        }
    }

    fn is_full(&self) -> bool {
        self.full
    }

    fn limit(&self) -> usize {
        MAX_WIDTH
    }
}

/// What the routines below say it with.
struct Output<'a, S: Sink>(&'a mut S);

impl<S: Sink> Output<'_, S> {
    fn push(&mut self, letter: char) {
        self.0.put(letter);
    }

    fn fill(&mut self, letter: char, count: usize) {
        (0..count).for_each(|_| self.push(letter));
    }
}

impl<S: Sink> Write for Output<'_, S> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().for_each(|letter| self.push(letter));
        Ok(())
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// What the format string at `format` says with `source`'s arguments.
pub fn format(format: u64, source: &mut impl Source) -> Line {
    let mut line = Line::new();
    format_into(Width::Narrow, format, source, &mut line);
    line
}

/// The same behind the text at `prefix`, which is no format: one line of both.
pub fn format_behind(prefix: u64, format: u64, source: &mut impl Source) -> Line {
    let mut line = Line::new();
    let mut at = Cursor { address: prefix, width: Width::Narrow };
    while let Some(letter) = at.letter(source).filter(|_| !line.full) {
        line.put(letter);
    }
    format_into(Width::Narrow, format, source, &mut line);
    line
}

/// The same into a sink, from a format of either width.
pub fn format_into<S: Sink>(width: Width, format: u64, source: &mut impl Source, sink: &mut S) {
    let mut line = Output(sink);
    let mut at = Cursor { address: format, width };
    while !line.0.is_full() {
        match at.letter(source) {
            None => break,
            Some('%') => conversion(&mut at, source, &mut line),
            Some(letter) => line.push(letter),
        }
    }
}

/// A place in the format string; at its end, and where it cannot be read, there is no next byte.
#[derive(Clone, Copy)]
struct Cursor {
    address: u64,
    width: Width,
}

impl Cursor {
    fn unit(&self, source: &impl Source) -> Option<u16> {
        let unit = match self.width {
            Width::Narrow => source.byte(self.address)?.into(),
            Width::Wide => unit(source, self.address)?,
        };
        Some(unit).filter(|&unit| unit != 0)
    }

    fn step(&mut self) {
        self.address = self.address.wrapping_add(if self.width == Width::Wide { 2 } else { 1 });
    }

    /// A character of the text; of a surrogate pair each half is shown as what it is not.
    fn letter(&mut self, source: &impl Source) -> Option<char> {
        let unit = self.unit(source)?;
        self.step();
        Some(char::from_u32(unit.into()).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    /// A character of a conversion, which are all ASCII; what is not looks like one that nobody knows.
    fn peek(&self, source: &impl Source) -> Option<u8> {
        self.unit(source).map(|unit| u8::try_from(unit).unwrap_or(b'?'))
    }

    fn next(&mut self, source: &impl Source) -> Option<u8> {
        let byte = self.peek(source)?;
        self.step();
        Some(byte)
    }

    fn next_if(&mut self, source: &impl Source, accepts: impl Fn(u8) -> bool) -> Option<u8> {
        self.peek(source).filter(|&byte| accepts(byte))?;
        self.next(source)
    }

    fn number(&mut self, source: &impl Source) -> Option<usize> {
        let mut value = None;
        while let Some(digit) = self.next_if(source, |byte| byte.is_ascii_digit()) {
            value = Some((value.unwrap_or(0) * 10 + usize::from(digit - b'0')).min(MAX_NUMBER));
        }
        value
    }
}

#[derive(Clone, Copy, Default)]
struct Flags {
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zero: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Size {
    Short,
    Byte,
    Default,
    /// `long`, which is 32 bits in this ABI; of a string, wide.
    Long,
    Wide,
    Pointer,
    Quad,
}

#[derive(Clone, Copy)]
struct Spec {
    flags: Flags,
    width: usize,
    precision: Option<usize>,
    size: Size,
}

fn conversion<S: Sink>(at: &mut Cursor, source: &mut impl Source, line: &mut Output<'_, S>) {
    let most = line.0.limit();
    let mut flags = flags(at, source);
    let width = if at.next_if(source, |byte| byte == b'*').is_some() {
        let given = source.word() as i32;
        flags.left |= given < 0;
        given.unsigned_abs() as usize
    } else {
        at.number(source).unwrap_or(0)
    };
    let precision = at.next_if(source, |byte| byte == b'.').and_then(|_| {
        if at.next_if(source, |byte| byte == b'*').is_some() {
            // A negative precision is none.
            usize::try_from(source.word() as i32).ok()
        } else {
            Some(at.number(source).unwrap_or(0))
        }
    });
    let size = size(at, source);
    let spec =
        Spec { flags, width: width.min(most), precision: precision.map(|given| given.min(most)), size };
    let format_is_wide = at.width == Width::Wide;
    match at.next(source) {
        None | Some(b'%') => line.push('%'),
        Some(b'd' | b'i') => signed(line, spec, source.word()),
        Some(b'u') => unsigned(line, spec, source.word(), 10, false),
        Some(b'x') => unsigned(line, spec, source.word(), 16, false),
        Some(b'X') => unsigned(line, spec, source.word(), 16, true),
        Some(b'o') => unsigned(line, spec, source.word(), 8, false),
        Some(b'p') => {
            unsigned(line, Spec { size: Size::Quad, precision: Some(16), ..spec }, source.word(), 16, true);
        }
        Some(kind @ (b'c' | b'C')) => {
            let word = source.word();
            let wide = is_wide(size, (kind == b'C') != format_is_wide);
            let unit = if wide { word as u16 } else { (word as u8).into() };
            text(
                line,
                spec,
                core::iter::once(char::from_u32(unit.into()).unwrap_or(char::REPLACEMENT_CHARACTER)),
            );
        }
        Some(kind @ (b's' | b'S' | b'Z')) => string(line, spec, kind, format_is_wide, source),
        // %n would write to memory, and the kernel has no floating point: shown as they are, nothing is consumed.
        Some(other) => {
            line.push('%');
            line.push(other.into());
        }
    }
}

fn flags(at: &mut Cursor, source: &impl Source) -> Flags {
    let mut flags = Flags::default();
    while let Some(flag) = at.next_if(source, |byte| b"-+ #0".contains(&byte)) {
        match flag {
            b'-' => flags.left = true,
            b'+' => flags.plus = true,
            b' ' => flags.space = true,
            b'#' => flags.alternate = true,
            _ => flags.zero = true,
        }
    }
    flags
}

fn size(at: &mut Cursor, source: &impl Source) -> Size {
    let mut size = Size::Default;
    loop {
        size = match at.peek(source) {
            Some(b'h') if size == Size::Short => Size::Byte,
            Some(b'h') => Size::Short,
            Some(b'l') if size == Size::Long => Size::Quad,
            Some(b'l') => Size::Long,
            Some(b'w') => Size::Wide,
            Some(b'L' | b'q' | b'j') => Size::Quad,
            Some(b'z' | b't') => Size::Pointer,
            Some(b'I') => {
                at.next(source);
                let mut ahead = *at;
                size = match (ahead.next(source), ahead.next(source)) {
                    (Some(b'6'), Some(b'4')) => Size::Quad,
                    (Some(b'3'), Some(b'2')) => Size::Default,
                    _ => {
                        ahead = *at;
                        Size::Pointer
                    }
                };
                *at = ahead;
                continue;
            }
            _ => return size,
        };
        at.next(source);
    }
}

fn signed<S: Sink>(line: &mut Output<'_, S>, spec: Spec, word: u64) {
    let value = match spec.size {
        Size::Quad | Size::Pointer => word.cast_signed(),
        Size::Short => i64::from(word as i16),
        Size::Byte => i64::from(word as i8),
        Size::Default | Size::Long | Size::Wide => i64::from(word as i32),
    };
    let sign = match (value < 0, spec.flags.plus, spec.flags.space) {
        (true, _, _) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    };
    integer(line, spec, sign, value.unsigned_abs(), 10, false);
}

fn unsigned<S: Sink>(line: &mut Output<'_, S>, spec: Spec, word: u64, radix: u64, upper: bool) {
    let value = match spec.size {
        Size::Quad | Size::Pointer => word,
        Size::Short => u64::from(word as u16),
        Size::Byte => u64::from(word as u8),
        Size::Default | Size::Long | Size::Wide => u64::from(word as u32),
    };
    let prefix = match (spec.flags.alternate && value != 0, radix, upper) {
        (true, 16, true) => "0X",
        (true, 16, false) => "0x",
        (true, 8, _) => "0",
        _ => "",
    };
    integer(line, spec, prefix, value, radix, upper);
}

fn integer<S: Sink>(
    line: &mut Output<'_, S>,
    spec: Spec,
    prefix: &str,
    mut value: u64,
    radix: u64,
    upper: bool,
) {
    // 22 octal digits are the most that 64 bits have.
    let mut digits = [0; 22];
    let mut start = digits.len();
    while value > 0 {
        start -= 1;
        let digit = char::from_digit((value % radix) as u32, radix as u32).unwrap_or('?');
        digits[start] = if upper { digit.to_ascii_uppercase() } else { digit } as u8;
        value /= radix;
    }
    let digits = &digits[start..];
    let mut zeroes = spec.precision.unwrap_or(1).saturating_sub(digits.len());
    let mut blanks = spec.width.saturating_sub(prefix.len() + zeroes + digits.len());
    if spec.flags.zero && !spec.flags.left && spec.precision.is_none() {
        zeroes += core::mem::take(&mut blanks);
    }
    if !spec.flags.left {
        line.fill(' ', blanks);
    }
    let _ = line.write_str(prefix);
    line.fill('0', zeroes);
    digits.iter().for_each(|&digit| line.push(digit.into()));
    if spec.flags.left {
        line.fill(' ', blanks);
    }
}

fn text<S: Sink>(line: &mut Output<'_, S>, spec: Spec, letters: impl Iterator<Item = char> + Clone) {
    let blanks = spec.width.saturating_sub(letters.clone().count());
    if !spec.flags.left {
        line.fill(' ', blanks);
    }
    letters.for_each(|letter| line.push(letter));
    if spec.flags.left {
        line.fill(' ', blanks);
    }
}

/// Whether a character or string is wide: by its size prefix, else by what the conversion says by itself.
fn is_wide(size: Size, otherwise: bool) -> bool {
    matches!(size, Size::Long | Size::Wide) || (otherwise && !matches!(size, Size::Short | Size::Byte))
}

fn string<S: Sink>(
    line: &mut Output<'_, S>,
    spec: Spec,
    kind: u8,
    format_is_wide: bool,
    source: &mut impl Source,
) {
    let pointer = source.word();
    let most = line.0.limit();
    let limit = spec.precision.unwrap_or(most).min(most);
    if pointer == 0 {
        return text(line, spec, "(null)".chars().take(limit));
    }
    // A counted string is one of bytes unless its prefix says otherwise, whatever the format is made of.
    let wide = is_wide(spec.size, kind != b'Z' && (kind == b'S') != format_is_wide);
    let source = &*source;
    let (buffer, limit, ends) = if kind == b'Z' {
        let Some((buffer, bytes)) = counted(source, pointer) else { return unreadable(line, pointer) };
        (buffer, limit.min(if wide { bytes / 2 } else { bytes }), false)
    } else {
        (pointer, limit, true)
    };
    if limit > 0 && source.byte(buffer).is_none() {
        return unreadable(line, buffer);
    }
    let index = 0..limit as u64;
    if wide {
        let units = index.map_while(|index| unit(source, buffer.wrapping_add(2 * index)));
        let units = units.take_while(|&unit| !ends || unit != 0);
        text(
            line,
            spec,
            char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)),
        );
    } else {
        let bytes = index.map_while(|index| source.byte(buffer.wrapping_add(index)));
        text(line, spec, bytes.take_while(|&byte| !ends || byte != 0).map(char::from));
    }
}

fn unreadable<S: Sink>(line: &mut Output<'_, S>, pointer: u64) {
    let _ = write!(line, "<unreadable 0x{pointer:X}>");
}

fn unit(source: &impl Source, address: u64) -> Option<u16> {
    Some(u16::from_le_bytes([source.byte(address)?, source.byte(address.wrapping_add(1))?]))
}

/// Buffer and length of the `STRING` or `UNICODE_STRING` at `address`.
fn counted(source: &impl Source, address: u64) -> Option<(u64, usize)> {
    let mut buffer = [0; 8];
    for (offset, byte) in (8..).zip(&mut buffer) {
        *byte = source.byte(address.wrapping_add(offset))?;
    }
    Some((u64::from_le_bytes(buffer), unit(source, address)?.into()))
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const FORMAT: u64 = 0x1_0000;
    const NARROW: u64 = 0x2_0000;
    const WIDE: u64 = 0x3_0000;
    const COUNTED: u64 = 0x4_0000;
    const COUNTED_WIDE: u64 = 0x5_0000;

    struct Memory {
        words: Vec<u64>,
        ranges: Vec<(u64, Vec<u8>)>,
    }

    impl Source for Memory {
        fn word(&mut self) -> u64 {
            if self.words.is_empty() { 0 } else { self.words.remove(0) }
        }
        fn byte(&self, address: u64) -> Option<u8> {
            let (start, bytes) = self.ranges.iter().rfind(|(start, _)| *start <= address)?;
            bytes.get((address - start) as usize).copied()
        }
    }

    fn says(text: &str, words: &[u64]) -> String {
        let wide: Vec<u8> = "wide\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let counted =
            |length: u8, buffer: u64| [&[length, 0, 64, 0, 0, 0, 0, 0][..], &buffer.to_le_bytes()].concat();
        let ranges = alloc::vec![
            (FORMAT, [text.as_bytes(), b"\0"].concat()),
            (NARROW, b"narrow\0".to_vec()),
            (WIDE, wide),
            (COUNTED, counted(3, NARROW)),
            (COUNTED_WIDE, counted(4, WIDE)),
        ];
        let mut memory = Memory { words: words.to_vec(), ranges };
        format(FORMAT, &mut memory).as_str().into()
    }

    #[test]
    fn integers_have_the_size_that_their_prefix_says() {
        assert_eq!(says("%d %u %x", &[u64::MAX, u64::MAX, u64::MAX]), "-1 4294967295 ffffffff");
        assert_eq!(
            says("%I64d %llu %Ix", &[u64::MAX, u64::MAX, 1 << 40]),
            "-1 18446744073709551615 10000000000"
        );
        assert_eq!(says("%hd %hhX %I32u", &[0x1_8000, 0x1FF, 1 << 32 | 7]), "-32768 FF 7");
        assert_eq!(
            says("%p %llo", &[0xFFFF_F800_0000_1234, u64::MAX]),
            "FFFFF80000001234 1777777777777777777777"
        );
    }

    #[test]
    fn fields_are_padded() {
        assert_eq!(says("[%5d][%-5d][%05d][%+d]", &[42, 42, 42, 42]), "[   42][42   ][00042][+42]");
        assert_eq!(says("[%05d][%#06x][%08.3d]", &[(-42i64) as u64, 0x2A, 7]), "[-0042][0x002a][     007]");
        assert_eq!(says("[%*d][%-*d]", &[4, 1, 4, 2]), "[   1][2   ]");
        assert_eq!(says("0x%08X|%.0d|%d", &[0xBEEF, 0, 0]), "0x0000BEEF||0");
    }

    #[test]
    fn strings_of_every_kind() {
        assert_eq!(
            says("%s %ws %S %ls %hs", &[NARROW, WIDE, WIDE, WIDE, NARROW]),
            "narrow wide wide wide narrow"
        );
        assert_eq!(says("%Z %wZ [%8.3s]", &[COUNTED, COUNTED_WIDE, NARROW]), "nar wi [     nar]");
        assert_eq!(says("%s %s", &[0, 3]), "(null) <unreadable 0x3>");
        assert_eq!(says("%c%C%%", &[65, 0x416]), "A\u{416}%");
    }

    #[test]
    fn what_the_kernel_does_not_know_is_shown_as_it_is() {
        assert_eq!(says("%n%f %d", &[5]), "%n%f 5");
        assert_eq!(says("100%", &[]), "100%");
        assert_eq!(says("a\x1b[31mb\r\n", &[]), "a?[31mb\n", "nothing that a terminal would obey");
    }

    struct Text(String);

    impl Sink for Text {
        fn put(&mut self, letter: char) {
            self.0.push(letter);
        }
        fn is_full(&self) -> bool {
            false
        }
        fn limit(&self) -> usize {
            1000
        }
    }

    #[test]
    fn a_wide_format_takes_wide_strings() {
        let wide =
            |text: &str| text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let ranges = alloc::vec![
            (FORMAT, wide("%s \u{416} %S %hs %ls %C%c %05d")),
            (NARROW, b"narrow\0".to_vec()),
            (WIDE, wide("wide")),
        ];
        let mut memory = Memory { words: alloc::vec![WIDE, NARROW, NARROW, WIDE, 65, 0x416, 7], ranges };
        let mut text = Text(String::new());
        format_into(Width::Wide, FORMAT, &mut memory, &mut text);
        assert_eq!(text.0, "wide \u{416} narrow narrow wide A\u{416} 00007");
    }

    #[test]
    fn a_prefix_is_no_format_and_counts_as_output() {
        let behind = |prefix: &str, text: &str| {
            let prefix = [prefix.as_bytes(), b"\0"].concat();
            let format = [text.as_bytes(), b"\0"].concat();
            let mut memory =
                Memory { words: alloc::vec![7], ranges: alloc::vec![(FORMAT, format), (NARROW, prefix)] };
            String::from(format_behind(NARROW, FORMAT, &mut memory).as_str())
        };
        assert_eq!(behind("100%d: ", "%u\n"), "100%d: 7\n");
        assert_eq!(behind("", "%u"), "7");
        assert_eq!(behind(&"x".repeat(600), "%u").len(), MAX_OUTPUT);
        assert_eq!(behind(&"x".repeat(500), &"y".repeat(100)).len(), MAX_OUTPUT);
    }

    #[test]
    fn output_is_bounded() {
        assert_eq!(says("%9999999999d", &[1]).len(), MAX_OUTPUT);
        assert_eq!(says(&"x".repeat(600), &[]).len(), MAX_OUTPUT);
        assert_eq!(says("%.*d", &[1_000_000, 1]).len(), MAX_OUTPUT);
        assert_eq!(says("%600s", &[NARROW]).len(), MAX_OUTPUT);
    }

    proptest! {
        #[test]
        fn any_format_is_answered(
            text in "(%|[-+ #0*.0-9hlwIzjLdiuxXopcCsSZn64]|[ -~]|\\PC){0,40}",
            words in prop::collection::vec(prop_oneof![any::<u64>(), NARROW..NARROW + 9, COUNTED..COUNTED + 20], 0..8),
        ) {
            prop_assert!(says(&text, &words).len() <= MAX_OUTPUT);
        }
    }
}

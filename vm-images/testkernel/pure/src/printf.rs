//! `DbgPrint`'s formatting: the C library's, as the kernel has it.
//!
//! Beside the usual conversions the kernel knows counted strings (`%Z`, `%wZ`), wide ones (`%S`, `%ws`, `%ls`) and the
//! size prefixes `I64`, `I32` and `I`; it has no floating point. Arguments come as words, eight bytes each on x64,
//! and pointers are followed by the caller, who knows what may be read.

use alloc::string::String;
use core::fmt::Write;

/// `DbgPrint` passes at most this many bytes on.
pub const MAX_OUTPUT: usize = 512;
/// The widest field or precision; beyond `MAX_OUTPUT` nothing would be seen of it.
const MAX_WIDTH: usize = MAX_OUTPUT;

/// Where the arguments come from. Strings are `None` where their memory cannot be read.
pub trait Arguments {
    /// The next argument's eight bytes.
    fn word(&mut self) -> u64;
    /// The bytes at `pointer`, up to a terminator and at most `limit`.
    fn narrow(&mut self, pointer: u64, limit: usize) -> Option<String>;
    /// The same for a UTF-16 string, `limit` in code units.
    fn wide(&mut self, pointer: u64, limit: usize) -> Option<String>;
    /// The string that the `STRING` at `pointer` describes.
    fn counted(&mut self, pointer: u64, limit: usize) -> Option<String>;
    /// The string that the `UNICODE_STRING` at `pointer` describes.
    fn counted_wide(&mut self, pointer: u64, limit: usize) -> Option<String>;
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
    Long,
    Wide,
    Pointer,
    Quad,
}

/// What `format` says with `arguments`, cut at [`MAX_OUTPUT`] bytes.
pub fn format(format: &str, arguments: &mut impl Arguments) -> String {
    let mut output = String::new();
    let mut rest = format.chars().peekable();
    while let Some(letter) = rest.next() {
        if output.len() >= MAX_OUTPUT {
            break;
        }
        if letter == '%' {
            conversion(&mut rest, arguments, &mut output);
        } else {
            output.push(letter);
        }
    }
    let mut end = output.len().min(MAX_OUTPUT);
    while !output.is_char_boundary(end) {
        end -= 1;
    }
    output.truncate(end);
    output
}

type Letters<'a> = core::iter::Peekable<core::str::Chars<'a>>;

fn conversion(rest: &mut Letters<'_>, arguments: &mut impl Arguments, output: &mut String) {
    let mut flags = flags(rest);
    let mut width = 0;
    if rest.next_if_eq(&'*').is_some() {
        let given = arguments.word() as i32;
        flags.left |= given < 0;
        width = given.unsigned_abs() as usize;
    } else if let Some(number) = number(rest) {
        width = number;
    }
    let mut precision = None;
    if rest.next_if_eq(&'.').is_some() {
        precision = Some(if rest.next_if_eq(&'*').is_some() {
            arguments.word() as i32
        } else {
            number(rest).unwrap_or(0) as i32
        });
    }
    // A negative precision is none.
    let precision = precision.and_then(|given| usize::try_from(given).ok()).map(|given| given.min(MAX_WIDTH));
    let size = size(rest);
    let Some(kind) = rest.next() else {
        output.push('%');
        return;
    };
    let field = match kind {
        '%' => {
            output.push('%');
            return;
        }
        'd' | 'i' => signed(arguments.word(), size, precision, flags),
        'u' => unsigned(arguments.word(), size, 10, false, precision, flags),
        'x' => unsigned(arguments.word(), size, 16, false, precision, flags),
        'X' => unsigned(arguments.word(), size, 16, true, precision, flags),
        'o' => unsigned(arguments.word(), size, 8, false, precision, flags),
        'p' => unsigned(arguments.word(), Size::Quad, 16, true, Some(16), Flags::default()),
        'c' if matches!(size, Size::Long | Size::Wide) => character(arguments.word() as u16),
        'C' if size != Size::Short => character(arguments.word() as u16),
        'c' | 'C' => character((arguments.word() as u8).into()),
        's' | 'S' | 'Z' => string(kind, size, arguments, precision),
        // %n would write to memory, and the kernel has no floating point: shown as they are, and nothing is consumed.
        other => {
            output.push('%');
            output.push(other);
            return;
        }
    };
    pad(output, &field, width.min(MAX_WIDTH), flags, precision.is_some() || "csSCZ".contains(kind));
}

fn flags(rest: &mut Letters<'_>) -> Flags {
    let mut flags = Flags::default();
    while let Some(flag) = rest.next_if(|letter| "-+ #0".contains(*letter)) {
        match flag {
            '-' => flags.left = true,
            '+' => flags.plus = true,
            ' ' => flags.space = true,
            '#' => flags.alternate = true,
            _ => flags.zero = true,
        }
    }
    flags
}

fn number(rest: &mut Letters<'_>) -> Option<usize> {
    let mut value: Option<usize> = None;
    while let Some(digit) = rest.next_if(char::is_ascii_digit).and_then(|letter| letter.to_digit(10)) {
        value = Some(value.unwrap_or(0).saturating_mul(10).saturating_add(digit as usize).min(MAX_WIDTH));
    }
    value
}

fn size(rest: &mut Letters<'_>) -> Size {
    let mut size = Size::Default;
    loop {
        size = match rest.peek() {
            Some('h') if size == Size::Short => Size::Byte,
            Some('h') => Size::Short,
            Some('l') if size == Size::Long => Size::Quad,
            Some('l') => Size::Long,
            Some('w') => Size::Wide,
            Some('L' | 'q' | 'j') => Size::Quad,
            Some('z' | 't') => Size::Pointer,
            Some('I') => {
                rest.next();
                let mut ahead = rest.clone();
                match (ahead.next(), ahead.next()) {
                    (Some('6'), Some('4')) => {
                        *rest = ahead;
                        size = Size::Quad;
                    }
                    (Some('3'), Some('2')) => {
                        *rest = ahead;
                        size = Size::Default;
                    }
                    _ => size = Size::Pointer,
                }
                continue;
            }
            _ => return size,
        };
        rest.next();
    }
}

/// `long` is 32 bits wide in this ABI, like `int`.
fn signed(word: u64, size: Size, precision: Option<usize>, flags: Flags) -> String {
    let value = match size {
        Size::Quad | Size::Pointer => word.cast_signed(),
        Size::Short => i64::from(word as i16),
        Size::Byte => i64::from(word as i8),
        Size::Default | Size::Long | Size::Wide => i64::from(word as i32),
    };
    let sign = match (value < 0, flags.plus, flags.space) {
        (true, _, _) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    };
    let digits = digits(value.unsigned_abs(), 10, false, precision);
    alloc::format!("{sign}{digits}")
}

fn unsigned(
    word: u64,
    size: Size,
    radix: u32,
    upper: bool,
    precision: Option<usize>,
    flags: Flags,
) -> String {
    let value = match size {
        Size::Quad | Size::Pointer => word,
        Size::Short => u64::from(word as u16),
        Size::Byte => u64::from(word as u8),
        Size::Default | Size::Long | Size::Wide => u64::from(word as u32),
    };
    let prefix = match (flags.alternate && value != 0, radix, upper) {
        (true, 16, true) => "0X",
        (true, 16, false) => "0x",
        (true, 8, _) => "0",
        _ => "",
    };
    alloc::format!("{prefix}{}", digits(value, radix, upper, precision))
}

fn digits(value: u64, radix: u32, upper: bool, precision: Option<usize>) -> String {
    let least = precision.unwrap_or(1);
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = match (radix, upper) {
        (16, true) => write!(text, "{value:0least$X}"),
        (16, false) => write!(text, "{value:0least$x}"),
        (8, _) => write!(text, "{value:0least$o}"),
        _ => write!(text, "{value:0least$}"),
    };
    if precision == Some(0) && value == 0 { String::new() } else { text }
}

fn character(unit: u16) -> String {
    char::from_u32(unit.into()).unwrap_or(char::REPLACEMENT_CHARACTER).into()
}

fn string(kind: char, size: Size, arguments: &mut impl Arguments, precision: Option<usize>) -> String {
    let pointer = arguments.word();
    let limit = precision.unwrap_or(MAX_OUTPUT).min(MAX_OUTPUT);
    if pointer == 0 {
        return "(null)".chars().take(limit).collect();
    }
    let wide = matches!(size, Size::Long | Size::Wide) || (kind == 'S' && size != Size::Short);
    let text = match (kind, wide) {
        ('Z', true) => arguments.counted_wide(pointer, limit),
        ('Z', false) => arguments.counted(pointer, limit),
        (_, true) => arguments.wide(pointer, limit),
        (_, false) => arguments.narrow(pointer, limit),
    };
    text.unwrap_or_else(|| alloc::format!("<unreadable 0x{pointer:X}>"))
}

fn pad(output: &mut String, field: &str, width: usize, flags: Flags, no_zeroes: bool) {
    let missing = width.saturating_sub(field.chars().count());
    let padding = |output: &mut String, with: char| output.extend(core::iter::repeat_n(with, missing));
    if flags.left {
        output.push_str(field);
        padding(output, ' ');
    } else if flags.zero && !no_zeroes {
        // Zeroes go between sign or prefix and digits.
        let prefix = field.len() - field.trim_start_matches(['-', '+', ' ']).len();
        let prefix = if field[prefix..].starts_with("0x") || field[prefix..].starts_with("0X") {
            prefix + 2
        } else {
            prefix
        };
        output.push_str(&field[..prefix]);
        padding(output, '0');
        output.push_str(&field[prefix..]);
    } else {
        padding(output, ' ');
        output.push_str(field);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Words(alloc::vec::Vec<u64>);

    impl Arguments for Words {
        fn word(&mut self) -> u64 {
            if self.0.is_empty() { 0 } else { self.0.remove(0) }
        }
        fn narrow(&mut self, pointer: u64, limit: usize) -> Option<String> {
            (pointer == 1).then(|| "narrow".chars().take(limit).collect())
        }
        fn wide(&mut self, pointer: u64, limit: usize) -> Option<String> {
            (pointer == 2).then(|| "wide".chars().take(limit).collect())
        }
        fn counted(&mut self, _: u64, limit: usize) -> Option<String> {
            Some("counted".chars().take(limit).collect())
        }
        fn counted_wide(&mut self, _: u64, limit: usize) -> Option<String> {
            Some("counted-wide".chars().take(limit).collect())
        }
    }

    fn says(text: &str, words: &[u64]) -> String {
        format(text, &mut Words(words.to_vec()))
    }

    #[test]
    fn integers_have_the_size_that_their_prefix_says() {
        assert_eq!(says("%d %u %x", &[u64::MAX, u64::MAX, u64::MAX]), "-1 4294967295 ffffffff");
        assert_eq!(
            says("%I64d %llu %Ix", &[u64::MAX, u64::MAX, 1 << 40]),
            "-1 18446744073709551615 10000000000"
        );
        assert_eq!(says("%hd %hhX %I32u", &[0x1_8000, 0x1FF, 1 << 32 | 7]), "-32768 FF 7");
        assert_eq!(says("%p", &[0xFFFF_F800_0000_1234]), "FFFFF80000001234");
    }

    #[test]
    fn fields_are_padded() {
        assert_eq!(says("[%5d][%-5d][%05d][%+d]", &[42, 42, 42, 42]), "[   42][42   ][00042][+42]");
        assert_eq!(says("[%05d][%#06x][%08.3d]", &[(-42i64) as u64, 0x2A, 7]), "[-0042][0x002a][     007]");
        assert_eq!(says("[%*d][%-*d]", &[4, 1, 4, 2]), "[   1][2   ]");
        assert_eq!(says("0x%08X|%.0d|", &[0xBEEF, 0]), "0x0000BEEF||");
    }

    #[test]
    fn strings_of_every_kind() {
        assert_eq!(says("%s %ws %S %ls %hs", &[1, 2, 2, 2, 1]), "narrow wide wide wide narrow");
        assert_eq!(says("%Z %wZ [%8.3s]", &[9, 9, 1]), "counted counted-wide [     nar]");
        assert_eq!(says("%s %s", &[0, 3]), "(null) <unreadable 0x3>");
        assert_eq!(says("%c%C%%", &[65, 0x416]), "A\u{416}%");
    }

    #[test]
    fn what_the_kernel_does_not_know_is_shown_as_it_is() {
        assert_eq!(says("%n%f %d", &[5]), "%n%f 5");
        assert_eq!(says("100%", &[]), "100%");
    }

    #[test]
    fn output_is_bounded() {
        assert_eq!(says("%9999999999d", &[1]).len(), MAX_OUTPUT);
        assert_eq!(says(&"x".repeat(600), &[]).len(), MAX_OUTPUT);
        assert_eq!(says(&"\u{e9}".repeat(300), &[]).len(), MAX_OUTPUT);
        assert_eq!(says("%.*d", &[1_000_000, 1]).len(), MAX_OUTPUT);
    }

    proptest! {
        #[test]
        fn any_format_is_answered(text in "(%|[-+ #0*.0-9hlwIzjLdiuxXopcCsSZn64]|[ -~]|\\PC){0,40}", words in prop::collection::vec(any::<u64>(), 0..8)) {
            prop_assert!(says(&text, &words).len() <= MAX_OUTPUT);
        }
    }
}

//! The crash record: one line of JSON that says how the system ended.
//!
//! It is written by a system that has just broken, so it is put together piece by piece, without memory of
//! its own, from whatever can still be read. The form is part of the contract with the harness (schema
//! `squall.crash/1`).

use core::fmt::{self, Write};

use crate::bugcheck::{self, BugCheck};

/// A driver image in the record.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// The file's name.
    pub name: &'a str,
    /// First address.
    pub base: u64,
    /// Bytes.
    pub size: u64,
    /// Its code is there no more.
    pub unloaded: bool,
}

impl Image<'_> {
    fn state(&self) -> &'static str {
        if self.unloaded { "unloaded" } else { "loaded" }
    }
}

/// What is told of the processor that stopped the system.
#[derive(Debug, Clone, Copy)]
pub struct CrashRecord<'a> {
    /// The stop code and its parameters.
    pub check: BugCheck,
    /// The processor's number.
    pub processor: usize,
    /// Its IRQL.
    pub irql: u8,
    /// The instruction at fault, or the caller of KeBugCheckEx.
    pub rip: u64,
    /// The registers by name, `rip` among them.
    pub registers: &'a [(&'static str, u64)],
    /// Return addresses, innermost first; a best effort.
    pub stack: &'a [u64],
    /// The thread that ran.
    pub thread: &'a str,
    /// The image that the faulting address or instruction lies in, with the offset.
    pub module: Option<(Image<'a>, u64)>,
    /// Whether Verifier watched.
    pub verifier: bool,
}

/// A JSON string: quotes, backslashes and control characters escaped.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                control if control < ' ' => write!(f, "\\u{:04x}", u32::from(control))?,
                other => f.write_char(other)?,
            }
        }
        f.write_char('"')
    }
}

/// Writes `items` with commas between them.
fn separated<T>(
    out: &mut impl Write,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut dyn Write, T) -> fmt::Result,
) -> fmt::Result {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.write_char(',')?;
        }
        write(out, item)?;
    }
    Ok(())
}

impl CrashRecord<'_> {
    /// Writes the record as one line. `images` are asked for one at a time, each to be given to the function.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to<W: Write>(
        &self,
        out: &mut W,
        images: impl FnOnce(&mut dyn FnMut(Image<'_>) -> fmt::Result) -> fmt::Result,
    ) -> fmt::Result {
        let name = bugcheck::name(self.check.code).unwrap_or("");
        write!(out, "{{\"schema\":\"squall.crash/1\",\"code\":{},\"name\":{}", self.check.code, Text(name))?;
        out.write_str(",\"parameters\":[")?;
        separated(out, self.check.parameters, |out, value| write!(out, "\"{value:#x}\""))?;
        write!(out, "],\"processor\":{},\"irql\":{},\"rip\":\"{:#x}\"", self.processor, self.irql, self.rip)?;
        out.write_str(",\"registers\":{")?;
        separated(out, self.registers, |out, (name, value)| write!(out, "{}:\"{value:#x}\"", Text(name)))?;
        out.write_str("},\"stack\":[")?;
        separated(out, self.stack, |out, address| write!(out, "\"{address:#x}\""))?;
        write!(out, "],\"thread\":{},\"module\":", Text(self.thread))?;
        match self.module {
            None => out.write_str("null")?,
            Some((image, offset)) => write!(
                out,
                "{{\"name\":{},\"offset\":\"{offset:#x}\",\"state\":\"{}\"}}",
                Text(image.name),
                image.state()
            )?,
        }
        out.write_str(",\"modules\":[")?;
        let mut first = true;
        images(&mut |image| {
            if !core::mem::take(&mut first) {
                out.write_char(',')?;
            }
            write!(
                out,
                "{{\"name\":{},\"base\":\"{:#x}\",\"size\":{},\"state\":\"{}\"}}",
                Text(image.name),
                image.base,
                image.size,
                image.state()
            )
        })?;
        writeln!(out, "],\"verifier\":{}}}", self.verifier)
    }
}

/// Whether the code bytes that end just before a return address are a call, as they are for a true one. Most
/// numbers on a stack that look like code addresses are left-overs; this tells nearly all of those apart.
#[must_use]
pub fn follows_call(before: &[u8]) -> bool {
    let back = |bytes: usize| before.len().checked_sub(bytes).map(|start| &before[start..]);
    // call rel32
    if back(5).is_some_and(|code| code[0] == 0xE8) {
        return true;
    }
    // call r/m64: FF /2, with every length that an operand can have.
    (2..=7).any(|length| {
        back(length).is_some_and(|code| {
            let (mode, register, operand) = (code[1] >> 6, code[1] >> 3 & 7, code[1] & 7);
            let sib = usize::from(mode != 3 && operand == 4);
            let displacement = match mode {
                0 if operand == 5 => 4,
                0 if sib == 1 && code.get(2).is_some_and(|sib| sib & 7 == 5) => 4,
                1 => 1,
                2 => 4,
                _ => 0,
            };
            code[0] == 0xFF && register == 2 && length == 2 + sib + displacement
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn written(record: &CrashRecord<'_>, images: &[Image<'_>]) -> serde_json::Value {
        let mut text = String::new();
        record.write_to(&mut text, |each| images.iter().try_for_each(|image| each(*image))).unwrap();
        assert!(text.ends_with('\n'));
        assert_eq!(text.lines().count(), 1, "one line");
        serde_json::from_str(&text).unwrap()
    }

    fn record<'a>() -> CrashRecord<'a> {
        CrashRecord {
            check: BugCheck { code: 0xD1, parameters: [0xffff_f800_0000_1010, 6, 8, 0xffff_f800_0000_1010] },
            processor: 1,
            irql: 6,
            rip: 0xffff_f800_0000_1010,
            registers: &[("rax", 1), ("rip", 0xffff_f800_0000_1010)],
            stack: &[0xffff_ffff_8020_0000, 2],
            thread: "agent",
            module: None,
            verifier: false,
        }
    }

    #[test]
    fn says_what_the_contract_says() {
        let gone = Image { name: "squall.sys", base: 0xffff_f800_0000_0000, size: 0x7000, unloaded: true };
        let kept = Image { name: "other.sys", base: 0xffff_f800_0010_0000, size: 0x1000, unloaded: false };
        let value = written(&CrashRecord { module: Some((gone, 0x1010)), ..record() }, &[gone, kept]);
        assert_eq!(value["schema"], "squall.crash/1");
        assert_eq!(value["code"], 209);
        assert_eq!(value["name"], "DRIVER_IRQL_NOT_LESS_OR_EQUAL");
        assert_eq!(value["parameters"][2], "0x8");
        assert_eq!(value["processor"], 1);
        assert_eq!(value["registers"]["rax"], "0x1");
        assert_eq!(value["stack"].as_array().unwrap().len(), 2);
        assert_eq!(value["module"]["offset"], "0x1010");
        assert_eq!(value["module"]["state"], "unloaded");
        assert_eq!(value["modules"][1]["state"], "loaded");
        assert_eq!(value["modules"][0]["size"], 0x7000);
        assert_eq!(value["verifier"], false);
    }

    #[test]
    fn hostile_names_stay_inside_their_strings() {
        let name = "a\"b\\c\n\u{1}é";
        let image = Image { name, base: 0, size: 1, unloaded: false };
        let value = written(&CrashRecord { thread: name, ..record() }, &[image]);
        assert_eq!(value["thread"], name);
        assert_eq!(value["modules"][0]["name"], name);
        assert!(value["module"].is_null());
    }

    #[test]
    fn return_addresses_follow_calls() {
        assert!(follows_call(&[0x90, 0xE8, 1, 2, 3, 4]), "call rel32");
        assert!(follows_call(&[0xFF, 0xD0]), "call rax");
        assert!(follows_call(&[0x41, 0xFF, 0xD4]), "call r12");
        assert!(follows_call(&[0xFF, 0x15, 1, 2, 3, 4]), "call [rip+x], an import");
        assert!(follows_call(&[0xFF, 0x50, 8]), "call [rax+8]");
        assert!(follows_call(&[0xFF, 0x54, 0x24, 0x20]), "call [rsp+20h]");
        assert!(follows_call(&[0xFF, 0x94, 0x24, 1, 2, 3, 4]), "call [rsp+x]");
        assert!(!follows_call(&[0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90]));
        assert!(!follows_call(&[0xFF, 0xE0]), "jmp rax");
        assert!(!follows_call(&[]));
    }
}

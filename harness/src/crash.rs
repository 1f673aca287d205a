//! Crash records: what the guest says about its own bugcheck.
//!
//! A dying kernel writes one line of JSON to a debug port and then tells pvpanic. Everything in it comes from a
//! machine whose memory a broken driver may have scribbled over, so every length is limited and every field typed;
//! what does not fit is an error in words, never a panic.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::hex::Hex;

/// The schema that this reader knows.
pub const SCHEMA: &str = "squall.crash/1";
/// The longest record that is read.
pub const LONGEST_RECORD: u64 = 256 << 10;
const MOST_STACK: usize = 32;
const MOST_MODULES: usize = 256;
const MOST_REGISTERS: usize = 64;
const LONGEST_NAME: usize = 256;

/// One bugcheck.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrashRecord {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The bugcheck code.
    pub code: u32,
    /// Its name.
    pub name: String,
    /// Its four parameters.
    pub parameters: [Hex; 4],
    /// The processor that raised it.
    pub processor: u32,
    /// The IRQL there.
    pub irql: u8,
    /// The instruction pointer there.
    pub rip: Hex,
    /// The registers there.
    #[serde(default)]
    pub registers: BTreeMap<String, Hex>,
    /// Return addresses, innermost first; a best effort.
    #[serde(default)]
    pub stack: Vec<Hex>,
    /// The thread that ran there.
    #[serde(default)]
    pub thread: Option<String>,
    /// The image in which the faulting address or instruction lies.
    pub module: Option<CrashModule>,
    /// Every image that is or was loaded.
    #[serde(default)]
    pub modules: Vec<ModuleRange>,
    /// Whether it was Driver Verifier that stopped the system.
    #[serde(default)]
    pub verifier: bool,
}

/// Where in which image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrashModule {
    /// The image's name.
    pub name: String,
    /// Bytes from its base.
    pub offset: Hex,
    /// Whether the image is still there.
    pub state: ModuleState,
}

/// Whether an image is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleState {
    /// It is.
    Loaded,
    /// It was.
    Unloaded,
}

/// The addresses of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModuleRange {
    /// The image's name.
    pub name: String,
    /// First address.
    pub base: Hex,
    /// Bytes.
    pub size: u64,
    /// Whether it is still there.
    pub state: ModuleState,
}

/// A crash record that cannot be believed.
#[derive(Debug, Error)]
pub enum CrashError {
    /// The file cannot be read.
    #[error("crash record: {0}")]
    Read(#[from] std::io::Error),
    /// More than any record.
    #[error("crash record: longer than {LONGEST_RECORD} bytes")]
    TooLong,
    /// The guest stopped in the middle of the line.
    #[error("crash record: torn after {0} bytes: the guest stopped while it wrote")]
    Torn(usize),
    /// Not the JSON that was agreed.
    #[error("crash record: {0}")]
    Json(#[from] serde_json::Error),
    /// Another schema.
    #[error("crash record: schema {0:?}, {SCHEMA} is expected")]
    Schema(String),
    /// Too much of something.
    #[error("crash record: {what}: {count}, at most {most}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many at most.
        most: usize,
    },
}

impl CrashRecord {
    /// Reads the first record of `crash.jsonl`; `None` where the guest wrote none.
    pub fn read(path: &Path) -> Result<Option<Self>, CrashError> {
        let mut bytes = Vec::new();
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        file.take(LONGEST_RECORD + 1).read_to_end(&mut bytes)?;
        Self::parse(&bytes)
    }

    /// Reads the first line. The records after it are of processors that died of the first one's death.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, CrashError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let end = bytes.iter().position(|&byte| byte == b'\n');
        if end.unwrap_or(bytes.len()) as u64 > LONGEST_RECORD {
            return Err(CrashError::TooLong);
        }
        let line = &bytes[..end.ok_or(CrashError::Torn(bytes.len()))?];
        let record: Self = serde_json::from_slice(line)?;
        record.check()?;
        Ok(Some(record))
    }

    fn check(&self) -> Result<(), CrashError> {
        if self.schema != SCHEMA {
            return Err(CrashError::Schema(self.schema.chars().take(64).collect()));
        }
        let limit = |what, count, most| {
            if count > most { Err(CrashError::TooMany { what, count, most }) } else { Ok(()) }
        };
        limit("return addresses", self.stack.len(), MOST_STACK)?;
        limit("modules", self.modules.len(), MOST_MODULES)?;
        limit("registers", self.registers.len(), MOST_REGISTERS)?;
        let names = [Some(&self.name), self.thread.as_ref(), self.module.as_ref().map(|module| &module.name)];
        for name in names.into_iter().flatten().chain(self.modules.iter().map(|module| &module.name)) {
            limit("characters in a name", name.len(), LONGEST_NAME)?;
        }
        Ok(())
    }

    /// The image in which an address lies, with the offset there. A loaded one is preferred: addresses are reused.
    pub fn locate(&self, address: u64) -> Option<(&ModuleRange, u64)> {
        let holding = |state| {
            self.modules.iter().filter(move |module| module.state == state).find_map(|module| {
                let offset = address.checked_sub(module.base.0)?;
                (offset < module.size).then_some((module, offset))
            })
        };
        holding(ModuleState::Loaded).or_else(|| holding(ModuleState::Unloaded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) const EXAMPLE: &str = concat!(
        r#"{"schema":"squall.crash/1","code":209,"name":"DRIVER_IRQL_NOT_LESS_OR_EQUAL","parameters":["#,
        r#""0xffff900000011120","0x5","0x8","0xffff900000011120"],"processor":0,"irql":5,"#,
        r#""rip":"0xffff900000011120","registers":{"rax":"0x0"},"stack":["0xffffffff80001234"],"thread":"idle","#,
        r#""module":{"name":"squall.sys","offset":"0x1120","state":"unloaded"},"modules":[{"name":"squall.sys","#,
        r#""base":"0xffff900000010000","size":24576,"state":"unloaded"}],"verifier":false}"#,
        "\n"
    );

    #[test]
    fn the_agreed_record_is_read() {
        let record = CrashRecord::parse(EXAMPLE.as_bytes()).unwrap().unwrap();
        assert_eq!((record.code, record.irql, record.parameters[2].0), (0xD1, 5, 8));
        assert_eq!(record.module.as_ref().unwrap().state, ModuleState::Unloaded);
        let (module, offset) = record.locate(0xffff_9000_0001_1120).unwrap();
        assert_eq!((module.name.as_str(), offset), ("squall.sys", 0x1120));
        assert!(record.locate(0xffff_9000_0001_6000).is_none());
    }

    #[test]
    fn no_bytes_mean_no_bugcheck() {
        assert!(CrashRecord::parse(b"").unwrap().is_none());
        assert!(CrashRecord::read(Path::new("no/such/file")).unwrap().is_none());
    }

    #[test]
    fn only_the_first_record_counts() {
        let two = format!("{EXAMPLE}garbage");
        assert_eq!(CrashRecord::parse(two.as_bytes()).unwrap().unwrap().code, 0xD1);
    }

    #[test]
    fn every_truncation_is_an_error_in_words() {
        for length in 1..EXAMPLE.len() {
            let error = CrashRecord::parse(&EXAMPLE.as_bytes()[..length]).unwrap_err();
            assert!(matches!(error, CrashError::Torn(_)), "{length}: {error}");
        }
    }

    #[test]
    fn hostile_records_are_refused() {
        let long = format!("{{\"x\":\"{}", "a".repeat(LONGEST_RECORD as usize));
        assert!(matches!(CrashRecord::parse(long.as_bytes()), Err(CrashError::TooLong)));
        let stack =
            EXAMPLE.replace("[\"0xffffffff80001234\"]", &format!("[{}\"0x1\"]", "\"0x1\",".repeat(32)));
        assert!(matches!(CrashRecord::parse(stack.as_bytes()), Err(CrashError::TooMany { .. })));
        let name = EXAMPLE.replace("idle", &"i".repeat(300));
        assert!(matches!(CrashRecord::parse(name.as_bytes()), Err(CrashError::TooMany { .. })));
        let schema = EXAMPLE.replace("squall.crash/1", "squall.crash/9");
        assert!(matches!(CrashRecord::parse(schema.as_bytes()), Err(CrashError::Schema(_))));
        for bad in ["\n", "null\n", "{}\n", "[[[[[[\n", "{\"schema\":1}\n"] {
            assert!(CrashRecord::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        // Nesting is bounded by the parser.
        let deep = format!("{}\n", "[".repeat(100_000));
        assert!(CrashRecord::parse(deep.as_bytes()).is_err());
    }
}

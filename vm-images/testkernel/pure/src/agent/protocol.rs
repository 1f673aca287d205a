//! The commands of the guest agent protocol, typed, and its responses.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// How many bytes `guest-file-read` gives without a count, as QEMU's agent.
pub const DEFAULT_READ: usize = 4096;
/// The most bytes that one `guest-file-read` gives.
pub const MAX_READ: usize = 512 << 10;

/// The commands that are answered, in the order of `guest-info`.
pub const COMMANDS: [&str; 11] = [
    "guest-sync-delimited",
    "guest-sync",
    "guest-ping",
    "guest-info",
    "guest-file-open",
    "guest-file-close",
    "guest-file-read",
    "guest-file-write",
    "guest-file-flush",
    "guest-exec",
    "guest-exec-status",
];

/// An error as the protocol shows it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// No such command.
    #[error("the command {0} has not been found")]
    CommandNotFound(String),
    /// Everything else.
    #[error("{0}")]
    Generic(String),
}

impl ProtocolError {
    /// A [`ProtocolError::Generic`].
    pub fn generic(text: impl ToString) -> Self {
        Self::Generic(text.to_string())
    }

    fn class(&self) -> &'static str {
        match self {
            Self::CommandNotFound(_) => "CommandNotFound",
            Self::Generic(_) => "GenericError",
        }
    }
}

/// A command with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Echo `id` behind a 0xFF byte, so that the client knows where it is in the stream.
    SyncDelimited(i64),
    /// Echo `id`.
    Sync(i64),
    /// Are you there?
    Ping,
    /// Which version, which commands?
    Info,
    /// Open a file or device.
    FileOpen(FileOpen),
    /// Close a handle.
    FileClose(Handle),
    /// Read from a handle.
    FileRead(FileRead),
    /// Write to a handle.
    FileWrite(FileWrite),
    /// Does nothing here: nothing is buffered.
    FileFlush(Handle),
    /// Start a program.
    Exec(Exec),
    /// Has it ended?
    ExecStatus(ExecStatus),
}

/// Arguments of `guest-file-open`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileOpen {
    /// Which file.
    pub path: String,
    /// As `fopen` has it; reading where it is left out.
    #[serde(default)]
    pub mode: Option<String>,
}

/// Arguments of what takes nothing but a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handle {
    /// From `guest-file-open`.
    pub handle: i64,
}

/// Arguments of `guest-file-read`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRead {
    /// From `guest-file-open`.
    pub handle: i64,
    /// How many bytes at most.
    #[serde(default)]
    pub count: Option<i64>,
}

/// Arguments of `guest-file-write`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileWrite {
    /// From `guest-file-open`.
    pub handle: i64,
    /// The bytes.
    #[serde(rename = "buf-b64")]
    pub data: String,
    /// How many of them; all where it is left out.
    #[serde(default)]
    pub count: Option<i64>,
}

/// Arguments of `guest-exec`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// Which program.
    pub path: String,
    /// Its arguments, without its own name.
    #[serde(default)]
    pub arg: Vec<String>,
    /// Ignored: the guest has no environment.
    #[serde(default)]
    pub env: Vec<String>,
    /// Ignored: the guest's one program reads nothing.
    #[serde(default, rename = "input-data")]
    pub input_data: Option<String>,
    /// Whether `guest-exec-status` is to carry what the program printed; `true`, `"stdout"`, `"merged"`...
    #[serde(default, rename = "capture-output")]
    pub capture_output: Value,
}

impl Exec {
    /// True where the program's output is wanted.
    pub fn captures(&self) -> bool {
        match &self.capture_output {
            Value::Bool(wanted) => *wanted,
            Value::String(mode) => mode != "none",
            _ => false,
        }
    }
}

/// Arguments of `guest-exec-status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecStatus {
    /// From `guest-exec`.
    pub pid: i64,
}

/// A command as it came, with what its response must carry.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What to do, or why not.
    pub command: Result<Command, ProtocolError>,
    /// The client's name for this request, echoed.
    pub id: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    execute: String,
    /// Read once it is known what they should be; null is none.
    #[serde(default, borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(default)]
    id: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SyncId {
    id: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Request {
    /// What stands for bytes that are not a request.
    pub fn refused(why: &str) -> Self {
        Self { command: Err(ProtocolError::generic(why)), id: None }
    }

    /// Reads one message.
    pub fn parse(message: &[u8]) -> Self {
        match serde_json::from_slice::<Envelope>(message) {
            Ok(Envelope { execute, arguments, id }) => Self { command: command(&execute, arguments), id },
            Err(error) => {
                Self { command: Err(ProtocolError::generic(format_args!("bad request: {error}"))), id: None }
            }
        }
    }
}

fn command(name: &str, arguments: Option<&RawValue>) -> Result<Command, ProtocolError> {
    fn typed<T: for<'a> Deserialize<'a>>(
        name: &str,
        arguments: Option<&RawValue>,
    ) -> Result<T, ProtocolError> {
        let arguments = arguments.map_or("{}", RawValue::get);
        if !arguments.starts_with('{') {
            return Err(ProtocolError::generic(format_args!("{name}: the arguments are not an object")));
        }
        // As bytes, like the envelope: the same code reads both.
        serde_json::from_slice(arguments.as_bytes())
            .map_err(|error| ProtocolError::generic(format_args!("{name}: {error}")))
    }
    Ok(match name {
        "guest-sync-delimited" => Command::SyncDelimited(typed::<SyncId>(name, arguments)?.id),
        "guest-sync" => Command::Sync(typed::<SyncId>(name, arguments)?.id),
        "guest-ping" => typed(name, arguments).map(|Nothing {}| Command::Ping)?,
        "guest-info" => typed(name, arguments).map(|Nothing {}| Command::Info)?,
        "guest-file-open" => Command::FileOpen(typed(name, arguments)?),
        "guest-file-close" => Command::FileClose(typed(name, arguments)?),
        "guest-file-read" => Command::FileRead(typed(name, arguments)?),
        "guest-file-write" => Command::FileWrite(typed(name, arguments)?),
        "guest-file-flush" => Command::FileFlush(typed(name, arguments)?),
        "guest-exec" => Command::Exec(typed(name, arguments)?),
        "guest-exec-status" => Command::ExecStatus(typed(name, arguments)?),
        other => return Err(ProtocolError::CommandNotFound(other.chars().take(64).collect())),
    })
}

impl FileRead {
    /// How many bytes to read.
    pub fn bytes(&self) -> Result<usize, ProtocolError> {
        let Some(count) = self.count else { return Ok(DEFAULT_READ) };
        let bytes = usize::try_from(count).ok().filter(|&bytes| bytes <= MAX_READ);
        bytes.ok_or_else(|| ProtocolError::generic(format_args!("count {count} is not 0 to {MAX_READ}")))
    }
}

impl FileWrite {
    /// The bytes to write.
    pub fn bytes(&self) -> Result<Vec<u8>, ProtocolError> {
        let mut bytes = STANDARD
            .decode(&self.data)
            .map_err(|error| ProtocolError::generic(format_args!("buf-b64 is not base64: {error}")))?;
        if let Some(count) = self.count {
            let count = usize::try_from(count).ok().filter(|&count| count <= bytes.len());
            let text = "count is not within the bytes of buf-b64";
            bytes.truncate(count.ok_or_else(|| ProtocolError::generic(text))?);
        }
        Ok(bytes)
    }
}

/// What `guest-info` returns.
pub fn info(version: &str) -> Value {
    let command = |name| json!({"name": name, "enabled": true, "success-response": true});
    json!({"version": version, "supported_commands": COMMANDS.map(command)})
}

/// What `guest-file-read` returns.
pub fn read_result(bytes: &[u8], eof: bool) -> Value {
    json!({"count": bytes.len(), "buf-b64": STANDARD.encode(bytes), "eof": eof})
}

/// What `guest-file-write` returns.
pub fn write_result(count: usize) -> Value {
    json!({"count": count, "eof": false})
}

/// What `guest-exec-status` returns of a program: `None` while it runs, then its exit code and, if wanted, output.
pub fn exec_status(ended: Option<(i32, Option<&str>)>) -> Value {
    match ended {
        None => json!({"exited": false}),
        Some((code, None)) => json!({"exited": true, "exitcode": code}),
        Some((code, Some(output))) => {
            json!({"exited": true, "exitcode": code, "out-data": STANDARD.encode(output), "out-truncated": false})
        }
    }
}

#[derive(Serialize)]
struct Return<'a> {
    r#return: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
}

/// The bytes that answer a request, with their newline; behind a 0xFF byte where it was a delimited sync.
pub fn response(request: &Request, result: &Result<Value, ProtocolError>) -> Vec<u8> {
    let id = request.id.as_ref();
    let text = match result {
        Ok(value) => serde_json::to_vec(&Return { r#return: value, id }),
        Err(error) => {
            let mut object = json!({"error": {"class": error.class(), "desc": error.to_string()}});
            if let Some(id) = id {
                object["id"] = id.clone();
            }
            serde_json::to_vec(&object)
        }
    };
    // Serializing a tree of JSON values to memory cannot fail; were it to, an empty line is the least wrong answer.
    let mut bytes = text.unwrap_or_default();
    if matches!(request.command, Ok(Command::SyncDelimited(_))) {
        bytes.insert(0, 0xFF);
    }
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Command, ProtocolError> {
        Request::parse(text.as_bytes()).command
    }

    #[test]
    fn commands_are_typed() {
        let sync = parse(r#"{"execute":"guest-sync-delimited","arguments":{"id":7}}"#);
        assert_eq!(sync, Ok(Command::SyncDelimited(7)));
        assert_eq!(parse(r#"{"execute":"guest-ping"}"#), Ok(Command::Ping));
        let Ok(Command::Exec(exec)) = parse(
            r#"{"execute":"guest-exec","arguments":{"path":"squall-agent","arg":["modules"],"capture-output":true}}"#,
        ) else {
            panic!("guest-exec");
        };
        assert_eq!((exec.path.as_str(), exec.arg.len(), exec.captures()), ("squall-agent", 1, true));
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let unknown = parse(r#"{"execute":"guest-shutdown"}"#).unwrap_err();
        assert_eq!(unknown.to_string(), "the command guest-shutdown has not been found");
        let missing = parse(r#"{"execute":"guest-file-close","arguments":{}}"#).unwrap_err();
        assert_eq!(missing.to_string(), "guest-file-close: missing field `handle` at line 1 column 2");
        let array = parse(r#"{"execute":"guest-file-close","arguments":[1]}"#).unwrap_err();
        assert_eq!(array.to_string(), "guest-file-close: the arguments are not an object");
        let extra = parse(r#"{"execute":"guest-ping","arguments":{"x":1}}"#).unwrap_err();
        assert!(extra.to_string().contains("unknown field `x`"), "{extra}");
        assert!(parse("{").unwrap_err().to_string().starts_with("bad request"));
    }

    #[test]
    fn responses_have_the_protocols_form() {
        let request = Request::parse(br#"{"execute":"guest-sync-delimited","arguments":{"id":7}}"#);
        assert_eq!(response(&request, &Ok(7.into())), b"\xFF{\"return\":7}\n");
        let request = Request::parse(br#"{"execute":"nonsense","id":"a"}"#);
        let error = request.command.clone().map(|_| Value::Null);
        let expected: Value = serde_json::from_str(
            r#"{"error":{"class":"CommandNotFound","desc":"the command nonsense has not been found"},"id":"a"}"#,
        )
        .unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&response(&request, &error)).unwrap(), expected);
    }

    #[test]
    fn every_listed_command_is_known() {
        for name in COMMANDS {
            let unknown = matches!(command(name, None), Err(ProtocolError::CommandNotFound(_)));
            assert!(!unknown, "{name}");
        }
    }

    #[test]
    fn file_data_is_decoded_and_counted() {
        let write = |data: &str, count| FileWrite { handle: 1, data: data.into(), count }.bytes();
        assert_eq!(write("AQID", None), Ok(alloc::vec![1, 2, 3]));
        assert_eq!(write("AQID", Some(2)), Ok(alloc::vec![1, 2]));
        assert!(write("AQID", Some(4)).is_err());
        assert!(write("AQI*", None).is_err());
        assert!(FileRead { handle: 1, count: Some(-1) }.bytes().is_err());
        assert_eq!(read_result(&[1, 2, 3], true)["buf-b64"], "AQID");
    }

    #[test]
    fn an_ended_program_shows_its_code_and_output() {
        assert_eq!(exec_status(None), json!({"exited": false}));
        let ended = exec_status(Some((2, Some("{}"))));
        assert_eq!((&ended["exitcode"], &ended["out-data"]), (&json!(2), &json!("e30=")));
    }

    proptest! {
        #[test]
        fn any_message_gets_a_response(message in prop::collection::vec(any::<u8>(), 0..300)) {
            let request = Request::parse(&message);
            let result = request.command.clone().map(|_| Value::Null);
            prop_assert!(response(&request, &result).ends_with(b"\n"));
        }

        #[test]
        fn any_arguments_are_typed_or_refused(name in prop::sample::select(&COMMANDS[..]), arguments in "\\{(\"(id|path|handle|count|arg|mode)\":(-?[0-9]{1,20}|\"[a-z]*\"|\\[\\]|null),?){0,3}\\}") {
            let text = alloc::format!("{{\"execute\":\"{name}\",\"arguments\":{arguments}}}");
            let request = Request::parse(text.as_bytes());
            let unknown = matches!(request.command, Err(ProtocolError::CommandNotFound(_)));
            prop_assert!(!unknown);
        }
    }
}

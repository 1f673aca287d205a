//! The command lines of `squall-agent`, the program that `guest-exec` starts.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::RangeInclusive;

/// The longest service name that Windows takes.
const MAX_SERVICE: usize = 256;

/// A command line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Make a service's registry key.
    Install {
        /// Its name.
        service: String,
        /// Where its image is.
        image: String,
        /// Values of its Parameters key.
        parameters: Vec<(String, Parameter)>,
    },
    /// Load the service's driver.
    Load {
        /// Its name.
        service: String,
        /// Which call of DriverEntry's is to fail.
        failure: Option<FailCall>,
    },
    /// Unload it.
    Unload(String),
    /// Load it, let interrupts come, unload it; over and over.
    Cycle {
        /// The service's name.
        service: String,
        /// How often: 1 to [`MAX_CYCLES`].
        cycles: u32,
        /// Interrupts that its ISR is to have claimed before each Unload.
        interrupts: u32,
    },
    /// How is it?
    Status(String),
    /// What is and was loaded?
    Modules,
    /// How much memory is in use?
    Memory,
    /// Tell the drivers that the system goes down.
    Shutdown,
    /// What can the Verifier do, and to whom?
    VerifierQuery,
    /// Turn checks on for a driver.
    Verifier {
        /// For which.
        driver: String,
        /// Which, as `verifier.exe` numbers them.
        flags: u32,
    },
}

/// A call that DriverEntry makes, and that is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailCall {
    /// Which of those that can, from 1; 0 for none, to count them.
    pub call: u32,
    /// The status that it fails with, where it returns one.
    pub status: u32,
}

/// The most cycles of one command line.
pub const MAX_CYCLES: u32 = 10_000;

/// STATUS_INSUFFICIENT_RESOURCES.
const DEFAULT_FAILURE: u32 = 0xC000_009A;

/// A registry value as `--param` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// `dword:N`, decimal or 0x-hexadecimal.
    Dword(u32),
    /// `sz:TEXT`.
    Sz(String),
}

/// A command line that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Usage(String);

impl Usage {
    fn new(text: impl ToString) -> Self {
        Self(text.to_string())
    }
}

impl Verb {
    /// Reads the arguments after the program's name.
    pub fn parse(arguments: &[String]) -> Result<Self, Usage> {
        let Some((verb, rest)) = arguments.split_first() else {
            return Err(Usage::new(
                "no verb: install, load, unload, cycle, status, modules, memory, shutdown or verifier",
            ));
        };
        let mut options = Options::read(verb, rest)?;
        let parsed = match verb.as_str() {
            "install" => Self::Install {
                service: options.service()?,
                image: options.required("--image")?,
                parameters: options.parameters()?,
            },
            "load" => Self::Load { service: options.service()?, failure: options.failure()? },
            "unload" => Self::Unload(options.service()?),
            "cycle" => Self::Cycle {
                service: options.service()?,
                cycles: options.number("--cycles", 1..=MAX_CYCLES)?,
                interrupts: options.number("--interrupts", 0..=1_000_000)?,
            },
            "status" => Self::Status(options.service()?),
            "modules" => Self::Modules,
            "memory" => Self::Memory,
            "shutdown" => Self::Shutdown,
            "verifier" if options.query => {
                options.query = false;
                Self::VerifierQuery
            }
            "verifier" => Self::Verifier {
                driver: options.required("--driver")?,
                flags: {
                    let given = options.required("--flags")?;
                    number(&given)
                        .ok_or_else(|| Usage::new(format_args!("--flags {given}: not a number of 32 bits")))?
                },
            },
            other => {
                let name: String = other.chars().take(40).collect();
                return Err(Usage::new(format_args!(
                    "{name}: no such verb (install, load, unload, cycle, status, modules, memory, shutdown, verifier)"
                )));
            }
        };
        options.all_used(verb)?;
        Ok(parsed)
    }
}

/// Options given and not yet used.
struct Options<'a> {
    given: Vec<(&'a str, &'a str)>,
    query: bool,
}

impl<'a> Options<'a> {
    fn read(verb: &str, arguments: &'a [String]) -> Result<Self, Usage> {
        let mut options = Self { given: Vec::new(), query: false };
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            if name == "--query" {
                options.query = true;
            } else if name.starts_with("--") {
                let value =
                    rest.next().ok_or_else(|| Usage::new(format_args!("{verb}: {name} needs a value")))?;
                options.given.push((name, value));
            } else {
                return Err(Usage::new(format_args!("{verb}: {name} is not an option")));
            }
        }
        Ok(options)
    }

    fn take(&mut self, name: &str) -> Option<&'a str> {
        let at = self.given.iter().position(|(given, _)| *given == name)?;
        Some(self.given.remove(at).1)
    }

    fn required(&mut self, name: &str) -> Result<String, Usage> {
        self.take(name).map(Into::into).ok_or_else(|| Usage::new(format_args!("{name} is missing")))
    }

    fn number(&mut self, name: &str, range: RangeInclusive<u32>) -> Result<u32, Usage> {
        let given = self.required(name)?;
        number(&given).filter(|number| range.contains(number)).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            Usage::new(format_args!("{name} {given}: not a number from {least} to {most}"))
        })
    }

    fn service(&mut self) -> Result<String, Usage> {
        let name = self.required("--service")?;
        let sane = !name.is_empty() && name.len() <= MAX_SERVICE && !name.contains(['\\', '/', '\0']);
        if sane {
            Ok(name)
        } else {
            Err(Usage::new("--service: a name without slashes, of 1 to 256 letters"))
        }
    }

    fn parameters(&mut self) -> Result<Vec<(String, Parameter)>, Usage> {
        let mut parameters = Vec::new();
        while let Some(given) = self.take("--param") {
            let parameter = parameter(given).ok_or_else(|| {
                Usage::new(format_args!("--param {given}: not NAME=dword:N (32 bits) or NAME=sz:TEXT"))
            })?;
            parameters.push(parameter);
        }
        Ok(parameters)
    }

    fn failure(&mut self) -> Result<Option<FailCall>, Usage> {
        const ERROR: u32 = 3;
        let status = match self.take("--fail-status") {
            None => None,
            Some(given) => {
                let status = number(given).filter(|status| status >> 30 == ERROR);
                let status = status.ok_or_else(|| {
                    Usage::new(format_args!("--fail-status {given}: not an error, 0xC0000000 or more"))
                });
                Some(status?)
            }
        };
        let Some(given) = self.take("--fail-call") else {
            return match status {
                None => Ok(None),
                Some(_) => Err(Usage::new("--fail-status goes with --fail-call only")),
            };
        };
        let call = number(given)
            .ok_or_else(|| Usage::new(format_args!("--fail-call {given}: not a number of 32 bits")))?;
        Ok(Some(FailCall { call, status: status.unwrap_or(DEFAULT_FAILURE) }))
    }

    fn all_used(&self, verb: &str) -> Result<(), Usage> {
        match (self.given.first(), self.query) {
            (None, false) => Ok(()),
            (Some((name, _)), _) => {
                Err(Usage::new(format_args!("{verb}: {name} is not one of its options, or twice")))
            }
            (None, true) => Err(Usage::new(format_args!("{verb}: --query is not one of its options"))),
        }
    }
}

fn parameter(given: &str) -> Option<(String, Parameter)> {
    let (name, value) = given.split_once('=')?;
    let value = match value.split_once(':')? {
        ("dword", digits) => Parameter::Dword(number(digits)?),
        ("sz", text) => Parameter::Sz(text.into()),
        _ => return None,
    };
    (!name.is_empty() && name.len() < 256).then(|| (name.into(), value))
}

fn number(digits: &str) -> Option<u32> {
    let lower = digits.to_ascii_lowercase();
    match lower.strip_prefix("0x") {
        // from_str_radix would also take a sign.
        Some(hex) if hex.bytes().all(|digit| digit.is_ascii_hexdigit()) => u32::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None if lower.bytes().all(|digit| digit.is_ascii_digit()) => lower.parse().ok(),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(line: &str) -> Result<Verb, String> {
        let arguments: Vec<String> = line.split_whitespace().map(Into::into).collect();
        Verb::parse(&arguments).map_err(|usage| usage.to_string())
    }

    #[test]
    fn install_takes_parameters_of_both_kinds() {
        let verb = parse(
            r"install --service squall --image C:\squall.sys --param IoBase=dword:0x300 --param Name=sz:a=b:c",
        );
        let parameters = alloc::vec![
            ("IoBase".into(), Parameter::Dword(0x300)),
            ("Name".into(), Parameter::Sz("a=b:c".into())),
        ];
        let expected = Verb::Install { service: "squall".into(), image: r"C:\squall.sys".into(), parameters };
        assert_eq!(verb, Ok(expected));
    }

    #[test]
    fn the_other_verbs() {
        assert_eq!(
            parse("load --service squall"),
            Ok(Verb::Load { service: "squall".into(), failure: None })
        );
        assert_eq!(parse("unload --service squall"), Ok(Verb::Unload("squall".into())));
        assert_eq!(parse("status --service squall"), Ok(Verb::Status("squall".into())));
        assert_eq!(parse("modules"), Ok(Verb::Modules));
        assert_eq!(parse("verifier --query"), Ok(Verb::VerifierQuery));
        let on = Verb::Verifier { driver: "squall.sys".into(), flags: 0x209BB };
        assert_eq!(parse("verifier --driver squall.sys --flags 0x209BB"), Ok(on));
    }

    #[test]
    fn a_load_may_ask_for_a_call_to_fail() {
        let failing = |line: &str| match parse(line) {
            Ok(Verb::Load { failure, .. }) => failure,
            other => panic!("{line}: {other:?}"),
        };
        let third = FailCall { call: 3, status: 0xC000_009A };
        assert_eq!(failing("load --service a --fail-call 3"), Some(third));
        let counted = FailCall { call: 0, status: 0xC000_0022 };
        assert_eq!(failing("load --service a --fail-call 0 --fail-status 0xC0000022"), Some(counted));
    }

    #[test]
    fn usage_errors_name_what_is_wrong() {
        for (line, expected) in [
            ("", "no verb: install, load, unload, cycle, status, modules, memory, shutdown or verifier"),
            (
                "explode",
                "explode: no such verb (install, load, unload, cycle, status, modules, memory, shutdown, verifier)",
            ),
            ("load", "--service is missing"),
            ("cycle --service a --cycles 5", "--interrupts is missing"),
            ("cycle --service a --cycles 0 --interrupts 5", "--cycles 0: not a number from 1 to 10000"),
            ("load --service", "load: --service needs a value"),
            ("load squall", "load: squall is not an option"),
            (r"load --service a\b", "--service: a name without slashes, of 1 to 256 letters"),
            ("load --service a --service b", "load: --service is not one of its options, or twice"),
            ("modules --query", "modules: --query is not one of its options"),
            ("verifier --driver a --flags +1", "--flags +1: not a number of 32 bits"),
            ("load --service a --fail-status 0xC0000001", "--fail-status goes with --fail-call only"),
            (
                "load --service a --fail-call 1 --fail-status 0x103",
                "--fail-status 0x103: not an error, 0xC0000000 or more",
            ),
            ("load --service a --fail-call x", "--fail-call x: not a number of 32 bits"),
            (
                "install --service a --image b --param x=dword:0x1FFFFFFFF",
                "--param x=dword:0x1FFFFFFFF: not NAME=dword:N (32 bits) or NAME=sz:TEXT",
            ),
        ] {
            assert_eq!(parse(line), Err(expected.into()), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_command_line_is_answered(arguments in prop::collection::vec("(install|load|verifier|--service|--param|--query|--flags|[a-z=:0-9x]{0,12}|\\PC{0,4})", 0..8)) {
            let _ = Verb::parse(&arguments);
        }
    }
}

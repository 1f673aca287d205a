//! What a driver is test-signed with: osslsigncode for the signature, openssl for the certificate.
//!
//! Both are [native](super::native) programs: they share the machine's libcrypto, and its files.

use std::time::Duration;

use super::advice::Tool;
use super::command::run_within;
use super::error::Error;
use super::native::{Native, NativeProgram};
use super::version::Version;
use super::{Found, Toolbox};

/// Long enough for a machine whose disk is cold.
const PATIENCE: Duration = Duration::from_secs(20);

const OSSLSIGNCODE: Native = Native {
    thing: "osslsigncode",
    title: "osslsigncode",
    package: "osslsigncode",
    programs: &["osslsigncode"],
    tool: Tool::Signer,
    version: |program| probe(program, "--version"),
};

const OPENSSL: Native = Native {
    thing: "openssl",
    title: "openssl",
    package: "openssl",
    programs: &["openssl"],
    tool: Tool::Signer,
    version: |program| probe(program, "version"),
};

/// Both programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Signs and verifies.
    pub osslsigncode: NativeProgram,
    /// Makes certificates.
    pub openssl: NativeProgram,
}

impl Toolbox {
    /// What signs: the machine's, or fetched now.
    pub fn signer(&self) -> Result<Signer, Error> {
        Ok(Signer { osslsigncode: self.native(&OSSLSIGNCODE)?, openssl: self.native(&OPENSSL)? })
    }

    /// What is already here.
    pub fn find_signer(&self) -> Found<Signer> {
        let (signs, certifies) = (self.find_native(&OSSLSIGNCODE), self.find_native(&OPENSSL));
        let good =
            signs.good.zip(certifies.good).map(|(osslsigncode, openssl)| Signer { osslsigncode, openssl });
        Found { good, refused: [signs.refused, certifies.refused].concat() }
    }
}

/// Asks a program for its version; it may say so on either output, and end as it likes.
fn probe(program: &NativeProgram, argument: &str) -> Result<Version, String> {
    let name = program.program.display().to_string();
    let output = run_within(&name, program.command().arg(argument), PATIENCE);
    let output = output.map_err(|error| error.to_string())?;
    Version::in_text(&output.stdout)
        .or_else(|| Version::in_text(&output.stderr))
        .ok_or_else(|| "does not say its version".to_owned())
}

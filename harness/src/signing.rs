//! Test-signing: what lets a 64-bit Windows in test mode load a driver.
//!
//! Windows loads kernel code only with an Authenticode signature (*Driver Signing*); in test mode
//! (`bcdedit /set testsigning on`) one by any certificate for code signing that the machine trusts will do (*How to Test-Sign Driver
//! Packages*). So a certificate is made here, signed by itself and worth nothing elsewhere, and kept, so that a test machine needs to be
//! told of it once. There is no time stamp: that would need a server, and such a signature is for today.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use thiserror::Error;

use crate::toolbox::Signer;

/// What the certificate says it is for.
const SUBJECT: &str = "/CN=Squall test signing (trusted by nobody)";
/// Ten years, in days.
const VALID_DAYS: &str = "3650";

/// Nothing was signed, or what was is not good.
#[derive(Debug, Error)]
pub enum SigningError {
    /// A file or a folder.
    #[error("signing: cannot {what} {}: {source}", path.display())]
    File {
        /// What was to be done with it.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program did not do its work.
    #[error("signing: {program}: {problem}")]
    Program {
        /// Which, and what it was to do.
        program: &'static str,
        /// Its last words.
        problem: String,
    },
}

/// A key and its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The private key, PEM. For its owner's eyes only.
    pub key: PathBuf,
    /// The certificate, PEM.
    pub pem: PathBuf,
    /// The certificate as `certutil -addstore Root` and `TrustedPublisher` take it, DER.
    pub der: PathBuf,
}

impl Certificate {
    /// The one in this folder; it is made where there is none.
    ///
    /// # Errors
    /// [`SigningError`], where it cannot be made.
    pub fn in_folder(folder: &Path, signer: &Signer) -> Result<Self, SigningError> {
        fs::create_dir_all(folder).map_err(file("create", folder))?;
        let [key, pem, der] =
            ["squall-test.key", "squall-test.pem", "squall-test.cer"].map(|name| folder.join(name));
        let certificate = Self { key, pem, der };
        let files = [&certificate.key, &certificate.pem, &certificate.der];
        if !files.into_iter().all(|file| file.is_file()) {
            certificate.make(folder, signer)?;
        }
        Ok(certificate)
    }

    fn make(&self, folder: &Path, signer: &Signer) -> Result<(), SigningError> {
        // An openssl that was fetched finds no settings of its own; these are all that are needed.
        let settings = folder.join("openssl.cnf");
        fs::write(&settings, "[req]\ndistinguished_name = name\n[name]\n")
            .map_err(file("write", &settings))?;
        let mut request = signer.openssl.command();
        request.args(["req", "-x509", "-newkey", "rsa:3072", "-sha256", "-noenc", "-days", VALID_DAYS]);
        request.args(["-subj", SUBJECT, "-addext", "extendedKeyUsage = codeSigning"]);
        request.args([
            "-addext",
            "basicConstraints = critical, CA:false",
            "-addext",
            "keyUsage = digitalSignature",
        ]);
        request.args([OsStr::new("-config"), settings.as_ref(), "-keyout".as_ref(), self.key.as_ref()]);
        request.arg("-out").arg(&self.pem);
        run("openssl req", &mut request)?;
        let mut convert = signer.openssl.command();
        convert.args(["x509", "-outform", "DER", "-in"]).arg(&self.pem).arg("-out").arg(&self.der);
        run("openssl x509", &mut convert)
    }

    /// Signs `image`; the signed one is `signed`, which is replaced.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn sign(&self, image: &Path, signed: &Path, signer: &Signer) -> Result<(), SigningError> {
        // It does not overwrite.
        match fs::remove_file(signed) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file("replace", signed)(error));
            }
            _ => {}
        }
        let mut sign = signer.osslsigncode.command();
        sign.args(["sign", "-h", "sha256", "-n", "Squall", "-certs"]).arg(&self.pem);
        sign.arg("-key").arg(&self.key).arg("-in").arg(image).arg("-out").arg(signed);
        run("osslsigncode sign", &mut sign)
    }

    /// Whether the image is signed by this certificate, and is what was signed.
    ///
    /// # Errors
    /// [`SigningError`]: it is not, and why.
    pub fn verify(&self, signed: &Path, signer: &Signer) -> Result<(), SigningError> {
        let mut verify = signer.osslsigncode.command();
        verify.arg("verify").arg("-CAfile").arg(&self.pem).arg("-in").arg(signed);
        run("osslsigncode verify", &mut verify)
    }
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SigningError {
    let path = path.to_owned();
    move |source| SigningError::File { what, path, source }
}

/// Runs a program that must do its work.
fn run(program: &'static str, command: &mut Command) -> Result<(), SigningError> {
    let fail = |problem: String| SigningError::Program { program, problem };
    let output = command.output().map_err(|error| fail(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let words = [output.stdout, output.stderr].concat();
    let words = String::from_utf8_lossy(&words);
    // Of a page of details, what went wrong.
    let telling =
        |line: &&str| ["rror", "ailed", "mismatch", "No signature"].iter().any(|word| line.contains(word));
    let line = words.lines().map(str::trim).find(telling).or_else(|| words.lines().next_back());
    Err(fail(format!("{}: {}", output.status, line.unwrap_or("it says nothing"))))
}

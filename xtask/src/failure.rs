//! What a command ends with where it does not end well: one line and an exit code.

use std::{fmt::Display, process::ExitCode};

use squall_harness::{
    c_drivers::CDriverError, catalogue::CatalogueError, image::ImageError, run::RunError,
    run_dir::RunDirError, scenario::ScenarioError, signing::SigningError, toolbox, wdk::WdkError,
};

/// One line and an exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Something was asked for that cannot be.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// Something other than the driver failed.
    pub(crate) fn infrastructure(message: impl Display) -> Self {
        Self { code: 3, message: message.to_string() }
    }

    /// What went wrong, in one line.
    pub(crate) fn message(&self) -> String {
        // An error of some library may have line breaks in it.
        let lines = self.message.split('\n').map(str::trim).filter(|part| !part.is_empty());
        lines.collect::<Vec<_>>().join(": ")
    }

    /// Says it, and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        eprintln!("error: {}", self.message());
        ExitCode::from(self.code)
    }
}

impl From<toolbox::Error> for Failure {
    fn from(error: toolbox::Error) -> Self {
        Self::infrastructure(error)
    }
}

impl From<WdkError> for Failure {
    fn from(error: WdkError) -> Self {
        Self::infrastructure(error)
    }
}

impl From<SigningError> for Failure {
    fn from(error: SigningError) -> Self {
        Self::infrastructure(error)
    }
}

impl From<CDriverError> for Failure {
    fn from(error: CDriverError) -> Self {
        Self::infrastructure(error)
    }
}

impl From<RunDirError> for Failure {
    fn from(error: RunDirError) -> Self {
        Self::infrastructure(error)
    }
}

impl From<ScenarioError> for Failure {
    fn from(error: ScenarioError) -> Self {
        Self::usage(error)
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Self::usage(error)
    }
}

impl From<CatalogueError> for Failure {
    fn from(error: CatalogueError) -> Self {
        Self::usage(error)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        if error.is_usage() { Self::usage(error) } else { Self::infrastructure(error) }
    }
}

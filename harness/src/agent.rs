//! The guest's agent, as the harness speaks to it.
//!
//! Three layers, each a file: [`sync`] finds the beginning of a conversation on a serial line that may hold anything;
//! [`client`] speaks the QEMU guest agent's protocol; [`answers`] types what our own program in the guest,
//! `squall-agent`, says. A stock agent on Windows and the embedded guest's own serve the same client.

pub mod answers;
pub mod client;
pub mod sync;

use std::io;

use thiserror::Error;

pub use self::{
    answers::{
        CycleAnswer, CyclePart, CyclesStopped, DriverInfo, Finding, Injection, LoadAnswer, Memory,
        ModuleInfo, Modules, PoolUse, ServiceState, StateAnswer, UnloadAnswer, VerifierAnswer,
    },
    client::Agent,
};

/// The agent did not do what it was told.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The connection is gone, or what came over it is no answer.
    #[error("agent: {0}")]
    Connection(#[source] io::Error),
    /// The agent refused, in its own words.
    #[error("agent {command}: {why}")]
    Refused {
        /// Which command.
        command: &'static str,
        /// The agent's words.
        why: String,
    },
    /// A verb's usage error.
    #[error("squall-agent {verb}: exit code {code}: {why}")]
    Verb {
        /// Which verb.
        verb: &'static str,
        /// Its exit code.
        code: i64,
        /// Its error.
        why: String,
    },
    /// An answer that is not what was agreed.
    #[error("squall-agent {verb}: unexpected answer: {why}")]
    Answer {
        /// Which verb.
        verb: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// An earlier command was given up before its answer came, or could not be sent.
    #[error("agent: an earlier command got no answer, the conversation cannot go on")]
    Abandoned,
}

//! Storms, misbehaviour, watches and statistics as JSON, which is how they travel through QMP.

mod misbehaviour;
mod register;
mod statistics;
mod storm;
mod watch;

pub(crate) use misbehaviour::{parse_misbehaviour, show_misbehaviour};
pub(crate) use statistics::show_statistics;
pub(crate) use storm::{parse_storm, show_storm};
pub(crate) use watch::{Watch, parse_watch, show_watch};

use serde::{Deserialize, Serialize};
use squall_model::{MisbehaviourError, StormError};
use thiserror::Error;

/// The longest description that is read.
const MAX_LEN: usize = 4096;

/// Why a description is refused.
#[derive(Debug, Error)]
pub(crate) enum DescriptionError {
    #[error("the description is {0} bytes long, more than {MAX_LEN}")]
    Length(usize),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("a JSON object is expected, in braces")]
    NoObject,
    #[error("{0}")]
    Storm(#[from] StormError),
    #[error("{field} does not go with the pace {pace}")]
    Misplaced { field: &'static str, pace: &'static str },
    #[error("the pace {pace} needs {field}")]
    Missing { field: &'static str, pace: &'static str },
    #[error("{0}")]
    Misbehaviour(#[from] MisbehaviourError),
    #[error("leave is the same address as enter")]
    NoSpan,
}

/// Reads a document, which is an object; `None` for the empty text.
fn parse<'de, T: Deserialize<'de>>(text: &'de str) -> Result<Option<T>, DescriptionError> {
    if text.is_empty() {
        return Ok(None);
    }
    check_len(text)?;
    // serde would take a list for the object's values in their order.
    if text.trim_start().starts_with('[') {
        return Err(DescriptionError::NoObject);
    }
    Ok(Some(serde_json::from_str(text)?))
}

fn check_len(text: &str) -> Result<(), DescriptionError> {
    if text.len() > MAX_LEN { Err(DescriptionError::Length(text.len())) } else { Ok(()) }
}

/// Numbers, texts and booleans under fixed keys always serialise.
fn show(document: Option<impl Serialize>) -> String {
    document.and_then(|document| serde_json::to_string(&document).ok()).unwrap_or_default()
}

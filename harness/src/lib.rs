//! Puts a Windows legacy driver through an interrupt storm and says what happened.
#![warn(missing_docs)]

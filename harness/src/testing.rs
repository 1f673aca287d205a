//! What the tests of this crate build their inputs with; compiled for tests only.

pub(crate) mod fake_agent;
pub(crate) mod fake_qmp;
pub(crate) mod pe;
pub(crate) mod verdict;

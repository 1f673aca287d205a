//! Which interrupt objects are connected to which vector.

use core::ptr;

use super::{Interrupt, MAX_SHARED};
use crate::ke::lock::InterruptLock;

/// Who is connected to each vector.
pub(super) struct Vectors {
    chains: [[*mut Interrupt; MAX_SHARED]; 256],
    /// The vectors to which anybody is: a bit for each.
    used: [u64; 4],
}

// SAFETY: interrupt objects belong to no processor.
unsafe impl Send for Vectors {}

pub(super) static VECTORS: InterruptLock<Vectors> =
    InterruptLock::new(Vectors { chains: [[ptr::null_mut(); MAX_SHARED]; 256], used: [0; 4] });

impl Vectors {
    /// Who is connected to the vector, to be changed; null for nobody.
    pub(super) fn chain(&mut self, vector: u8) -> &mut [*mut Interrupt; MAX_SHARED] {
        &mut self.chains[usize::from(vector)]
    }

    /// Who is connected to the vector.
    pub(super) fn objects(&self, vector: u8) -> &[*mut Interrupt; MAX_SHARED] {
        &self.chains[usize::from(vector)]
    }

    /// Notes whether anybody is connected to the vector, after a change.
    pub(super) fn note(&mut self, vector: u8) {
        let bit = 1 << (vector % 64);
        let is_used = self.chain(vector).iter().any(|object| !object.is_null());
        let word = &mut self.used[usize::from(vector / 64)];
        *word = if is_used { *word | bit } else { *word & !bit };
    }

    /// The vectors to which anybody is connected.
    pub(super) fn used(&self) -> impl Iterator<Item = u8> + use<> {
        self.used.into_iter().zip(0_u8..).flat_map(|(mut word, number)| {
            core::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros() as u8)?;
                word &= word - 1;
                Some(number * 64 + bit)
            })
        })
    }

    /// Every interrupt object that is connected, with its vector.
    pub(super) fn connected(&self) -> impl Iterator<Item = (u8, *mut Interrupt)> {
        self.used().flat_map(|vector| {
            let chain = self.objects(vector);
            chain.iter().filter(|object| !object.is_null()).map(move |&object| (vector, object))
        })
    }
}

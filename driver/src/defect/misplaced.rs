//! Memory in the wrong place.
//!
//! What the ISR and the kernel use belongs into the device extension, which is there until the device object goes. Here it is in a block
//! of pool, which goes when somebody frees it, or in the image, which goes when Unload returns.

use core::{ptr::NonNull, sync::atomic::AtomicU64};

use wdk_sys::PDEVICE_OBJECT;

use super::Defect;
use crate::{
    card::Card,
    extension::{Arrivals, Objects},
    nt::{pool, status::Result},
};

/// Where a defect has its memory, if not in the extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The ISR's context is in pool.
    ContextInPool,
    /// DPC, timer and lookaside list are in pool.
    ObjectsInPool,
    /// Or among the image's data.
    ObjectsInImage,
}

static IMAGE: Objects = Objects::new();

/// What is not in the extension.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Misplaced {
    arrivals: Option<NonNull<Arrivals>>,
    objects: Option<NonNull<Objects>>,
    in_image: bool,
}

impl Misplaced {
    /// Provides for it.
    pub(crate) fn allocate(defect: Option<Defect>) -> Result<Self> {
        let mut misplaced = Self::default();
        match defect.and_then(Defect::place) {
            Some(Place::ContextInPool) => {
                misplaced.arrivals = Some(pool::allocate(size_of::<Arrivals>())?.cast());
            }
            Some(Place::ObjectsInPool) => {
                let objects = pool::allocate(size_of::<Objects>())?.cast::<Objects>();
                // SAFETY: just allocated, that large, and aligned well enough.
                unsafe { objects.write(Objects::new()) };
                misplaced.objects = Some(objects);
            }
            Some(Place::ObjectsInImage) => {
                (misplaced.objects, misplaced.in_image) = (Some(NonNull::from(&IMAGE)), true);
            }
            None => {}
        }
        Ok(misplaced)
    }

    /// Fills the ISR's context in.
    pub(crate) fn fill_in(&self, device: PDEVICE_OBJECT, card: Card) {
        let value = Arrivals { device, card, interrupts: AtomicU64::new(0), overruns: AtomicU64::new(0) };
        if let Some(arrivals) = self.arrivals {
            // SAFETY: allocated, that large, and not used by anybody yet.
            unsafe { arrivals.write(value) };
        }
    }

    /// The ISR's context.
    pub(crate) fn arrivals(&self) -> Option<&Arrivals> {
        // SAFETY: filled in, and never known to be freed: that is the mistake.
        self.arrivals.map(|arrivals| unsafe { arrivals.as_ref() })
    }

    /// Memory of kernel objects.
    pub(crate) fn objects(&self) -> Option<&Objects> {
        // SAFETY: as above.
        self.objects.map(|objects| unsafe { objects.as_ref() })
    }

    /// Frees the ISR's context.
    pub(crate) fn free_arrivals(&mut self) {
        if let Some(arrivals) = self.arrivals.take() {
            // SAFETY: allocated above, and freed here alone. Whether anybody still uses it is what the defect is about.
            unsafe { pool::free(arrivals.cast()) };
        }
    }

    /// Frees the kernel objects' memory, where it is pool.
    pub(crate) fn free_objects(&mut self) {
        if let Some(objects) = self.objects.take().filter(|_| !self.in_image) {
            // SAFETY: as above.
            unsafe { pool::free(objects.cast()) };
        }
    }
}

//! Names for the kernel, put together.

/// Writes `first`, then `second` (ASCII), then a zero into `place`. `None` where they do not fit, or `second` is not ASCII.
#[must_use]
pub fn utf16_with_nul(place: &mut [u16], first: &[u16], second: &str) -> Option<()> {
    let units = first.iter().copied().chain(second.bytes().map(u16::from)).chain([0]);
    if !second.is_ascii() || first.len() + second.len() + 1 > place.len() {
        return None;
    }
    place.iter_mut().zip(units).for_each(|(place, unit)| *place = unit);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_follow_each_other_and_end_in_a_zero() {
        let mut place = [0xFFFF; 5];
        assert_eq!(utf16_with_nul(&mut place, &[0x61, 0x62], "cd"), Some(()));
        assert_eq!(place, [0x61, 0x62, 0x63, 0x64, 0]);
        assert_eq!(utf16_with_nul(&mut place, &[0x61, 0x62], "cde"), None);
        assert_eq!(utf16_with_nul(&mut place, &[], "ä"), None);
    }
}

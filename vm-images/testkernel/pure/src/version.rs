//! Whether a version is what somebody asks for.
//!
//! Source: *RtlVerifyVersionInfo function (wdm.h)*, *VerSetConditionMask function (ntddk.h)*.

use core::cmp::Ordering;

/// Numbers of the fields, as their bits in a type mask are: minor, major, build, platform, minor and major of the service pack,
/// suites, product type.
pub const FIELDS: usize = 8;
const MINOR: usize = 0;
const MAJOR: usize = 1;
const PACK_MINOR: usize = 4;
const PACK_MAJOR: usize = 5;
const SUITES: usize = 6;
/// Bits of a condition.
const CONDITION_BITS: usize = 3;

/// `condition` for the highest field of `types`, beside the conditions that are there.
pub fn set_condition(mask: u64, types: u32, condition: u8) -> u64 {
    let condition = u64::from(condition & 7);
    match types.checked_ilog2() {
        Some(field) if condition != 0 && (field as usize) < FIELDS => {
            mask | condition << (CONDITION_BITS * field as usize)
        }
        _ => mask,
    }
}

fn condition(mask: u64, field: usize) -> u64 {
    mask >> (CONDITION_BITS * field) & 7
}

/// Whether what there is compares so with what is wanted.
fn holds(order: Ordering, condition: u64) -> bool {
    match condition {
        1 => order.is_eq(),
        2 => order.is_gt(),
        3 => order.is_ge(),
        4 => order.is_lt(),
        5 => order.is_le(),
        _ => false,
    }
}

/// Whether the version `own` is as `wanted` in the fields of `types`, each by its condition. Major and minor version and service
/// pack count as one number, most significant first, by the condition of the first of them that is asked for.
pub fn verify(own: &[u32; FIELDS], wanted: &[u32; FIELDS], types: u32, conditions: u64) -> bool {
    let asked = |field: &usize| types >> field & 1 != 0;
    let together = [MAJOR, MINOR, PACK_MAJOR, PACK_MINOR].into_iter().filter(asked);
    let first = together.clone().next();
    let order = together.map(|field| own[field].cmp(&wanted[field])).fold(Ordering::Equal, Ordering::then);
    let single = |field: usize| match condition(conditions, field) {
        6 if field == SUITES => own[field] & wanted[field] == wanted[field],
        7 if field == SUITES => own[field] & wanted[field] != 0,
        condition => holds(own[field].cmp(&wanted[field]), condition),
    };
    first.is_none_or(|field| holds(order, condition(conditions, field)))
        && [2, 3, SUITES, 7].into_iter().filter(asked).all(single)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u32; FIELDS] = [0, 10, 19045, 2, 0, 0, 0x100, 1];
    const MAJOR_MINOR: u32 = 3;

    fn conditions(pairs: &[(u32, u8)]) -> u64 {
        pairs.iter().fold(0, |mask, &(types, condition)| set_condition(mask, types, condition))
    }

    #[test]
    fn versions_compare_as_one_number() {
        let at_least = conditions(&[(2, 3), (1, 3)]);
        for (major, minor, expected) in [(6, 3, true), (10, 0, true), (10, 1, false), (11, 0, false)] {
            let wanted = [minor, major, 0, 0, 0, 0, 0, 0];
            assert_eq!(verify(&OWN, &wanted, MAJOR_MINOR, at_least), expected, "{major}.{minor}");
        }
        let newer = conditions(&[(2, 2), (1, 2)]);
        assert!(!verify(&OWN, &[0, 10, 0, 0, 0, 0, 0, 0], MAJOR_MINOR, newer));
        assert!(verify(&OWN, &[9, 9, 0, 0, 0, 0, 0, 0], MAJOR_MINOR, newer));
    }

    #[test]
    fn other_fields_compare_alone() {
        assert!(verify(&OWN, &[0, 0, 19041, 0, 0, 0, 0, 0], 4, conditions(&[(4, 3)])));
        assert!(!verify(&OWN, &[0, 0, 19046, 0, 0, 0, 0, 0], 4, conditions(&[(4, 3)])));
        assert!(verify(&OWN, &[0, 0, 0, 0, 0, 0, 0x100, 0], 0x40, conditions(&[(0x40, 6)])));
        assert!(!verify(&OWN, &[0, 0, 0, 0, 0, 0, 0x102, 0], 0x40, conditions(&[(0x40, 6)])));
        assert!(verify(&OWN, &[0, 0, 0, 0, 0, 0, 0x102, 0], 0x40, conditions(&[(0x40, 7)])));
        assert!(!verify(&OWN, &OWN, 4, 0));
    }
}

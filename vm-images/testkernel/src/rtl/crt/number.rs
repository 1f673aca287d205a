//! Numbers in text, of any base.

/// Room for the longest number: 64 binary digits and a sign.
pub(super) struct Digits([u8; 65]);

impl Digits {
    pub(super) const fn new() -> Self {
        Self([0; 65])
    }

    /// The digits; `None` for a base that there is none of.
    pub(super) fn of(&mut self, amount: u64, negative: bool, base: u32) -> Option<&[u8]> {
        if !(2..=36).contains(&base) {
            return None;
        }
        let mut rest = amount;
        let mut start = self.0.len();
        let mut put = |digit: u8| {
            start -= 1;
            self.0[start] = digit;
        };
        loop {
            let digit = (rest % u64::from(base)) as u32;
            put(char::from_digit(digit, base).unwrap_or('?') as u8);
            rest /= u64::from(base);
            if rest == 0 {
                break;
            }
        }
        if negative {
            put(b'-');
        }
        Some(&self.0[start..])
    }
}

/// The value of a unit as a digit.
fn digit(unit: u32, base: u32) -> Option<u64> {
    char::from_u32(unit)?.to_digit(base).map(u64::from)
}

/// What `strtoul` and its kin make of a text: the amount, a sign, whether it was too large, and how many units were read.
pub(super) struct Read {
    pub(super) amount: u64,
    pub(super) negative: bool,
    pub(super) overflow: bool,
    pub(super) units: usize,
}

/// Reads blanks, a sign and digits; with base 0, or 16, after a `0x` as well. `at` gives the unit of a place, and zero after the end.
pub(super) fn read(at: impl Fn(usize) -> u32, base: u32, largest: u64) -> Read {
    let mut place = (0..).find(|&place| !matches!(at(place), 9..=13 | 32)).unwrap_or(0);
    let sign = at(place);
    if sign == u32::from(b'-') || sign == u32::from(b'+') {
        place += 1;
    }
    let is_x = |unit: u32| unit == u32::from(b'x') || unit == u32::from(b'X');
    let prefixed = at(place) == u32::from(b'0') && is_x(at(place + 1)) && digit(at(place + 2), 16).is_some();
    let base = match base {
        0 if prefixed => 16,
        0 if at(place) == u32::from(b'0') => 8,
        0 => 10,
        base => base,
    };
    if base == 16 && prefixed {
        place += 2;
    }
    let mut read = Read { amount: 0, negative: sign == u32::from(b'-'), overflow: false, units: 0 };
    while let Some(digit) = digit(at(place), base) {
        let next = read.amount.checked_mul(base.into()).and_then(|amount| amount.checked_add(digit));
        match next.filter(|next| *next <= largest) {
            Some(next) => read.amount = next,
            None => read.overflow = true,
        }
        place += 1;
        read.units = place;
    }
    if read.overflow {
        read.amount = largest;
    }
    read
}

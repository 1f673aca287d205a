//! The calendar: from 100 ns units since 1601 to year, month and day, and back.

use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE, TIME_FIELDS, TRUE};
use crate::selftest::{check, kernel_test};

const UNITS_PER_MS: i64 = 10_000;
const MS_PER_DAY: i64 = 86_400_000;
const UNITS_PER_SECOND: i64 = 1000 * UNITS_PER_MS;
/// Seconds from the beginning of 1601 to that of these years.
const YEAR_1970: i64 = 11_644_473_600;
const YEAR_1980: i64 = 11_960_006_400;
const DAYS_PER_400_YEARS: i64 = 146_097;
/// Monday, with Sunday as 0: the first of January 1601.
const FIRST_WEEKDAY: i64 = 1;
/// The calendar's last year.
const LAST_YEAR: i16 = 30827;

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from the beginning of 1601 to that of `year`.
fn days_before(year: i64) -> i64 {
    let years = year - 1601;
    years * 365 + years / 4 - years / 100 + years / 400
}

/// Whole seconds since some moment, where 32 bits hold them.
///
/// # Safety
/// `seconds` must have room for a number.
unsafe fn to_seconds(time: i64, since: i64, seconds: *mut u32) -> BOOLEAN {
    match u32::try_from(time / UNITS_PER_SECOND - since) {
        Ok(number) => {
            // SAFETY: the caller's contract.
            unsafe { seconds.write(number) };
            TRUE
        }
        Err(_) => FALSE,
    }
}

export! {
    /// *RtlTimeToSecondsSince1970*: FALSE where they are more, or fewer, than 32 bits can hold.
    pub unsafe extern "win64" fn RtlTimeToSecondsSince1970(time: *const i64, seconds: *mut u32) -> BOOLEAN {
        // SAFETY: the caller's time and storage.
        unsafe { to_seconds(time.read(), YEAR_1970, seconds) }
    }

    /// *RtlSecondsSince1970ToTime*.
    pub unsafe extern "win64" fn RtlSecondsSince1970ToTime(seconds: u32, time: *mut i64) {
        // SAFETY: the caller's storage.
        unsafe { time.write((i64::from(seconds) + YEAR_1970) * UNITS_PER_SECOND) };
    }

    /// *RtlTimeToSecondsSince1980*: likewise.
    pub unsafe extern "win64" fn RtlTimeToSecondsSince1980(time: *const i64, seconds: *mut u32) -> BOOLEAN {
        // SAFETY: the caller's time and storage.
        unsafe { to_seconds(time.read(), YEAR_1980, seconds) }
    }

    /// *RtlSecondsSince1980ToTime*.
    pub unsafe extern "win64" fn RtlSecondsSince1980ToTime(seconds: u32, time: *mut i64) {
        // SAFETY: the caller's storage.
        unsafe { time.write((i64::from(seconds) + YEAR_1980) * UNITS_PER_SECOND) };
    }

    /// *RtlTimeToTimeFields function (wdm.h)*: the weekday counts from Sunday, 0.
    pub unsafe extern "win64" fn RtlTimeToTimeFields(time: *const i64, fields: *mut TIME_FIELDS) {
        // SAFETY: the caller gives a time.
        let all_ms = unsafe { time.read() }.max(0) / UNITS_PER_MS;
        let (days, ms) = (all_ms / MS_PER_DAY, all_ms % MS_PER_DAY);
        let mut year = 1601 + days / DAYS_PER_400_YEARS * 400;
        while days_before(year + 1) <= days {
            year += 1;
        }
        let (mut day, mut month) = (days - days_before(year), 1);
        while day >= days_of_month(year, month) {
            day -= days_of_month(year, month);
            month += 1;
        }
        let result = TIME_FIELDS {
            Year: year as i16,
            Month: month as i16,
            Day: day as i16 + 1,
            Hour: (ms / 3_600_000) as i16,
            Minute: (ms / 60_000 % 60) as i16,
            Second: (ms / 1000 % 60) as i16,
            Milliseconds: (ms % 1000) as i16,
            Weekday: ((days + FIRST_WEEKDAY) % 7) as i16,
        };
        // SAFETY: the caller gives storage for the fields.
        unsafe { fields.write(result) };
    }

    /// *RtlTimeFieldsToTime function (wdm.h)*: FALSE for a date that the calendar does not have. The weekday is ignored.
    pub unsafe extern "win64" fn RtlTimeFieldsToTime(fields: *const TIME_FIELDS, time: *mut i64) -> BOOLEAN {
        // SAFETY: the caller gives the fields.
        let TIME_FIELDS { Year, Month, Day, Hour, Minute, Second, Milliseconds, .. } = unsafe { fields.read() };
        let (year, month) = (i64::from(Year), i64::from(Month));
        let valid = (1601..=LAST_YEAR).contains(&Year)
            && (1..=12).contains(&Month)
            && (1..=days_of_month(year, month)).contains(&i64::from(Day))
            && (0..24).contains(&Hour)
            && (0..60).contains(&Minute)
            && (0..60).contains(&Second)
            && (0..1000).contains(&Milliseconds);
        if !valid {
            return FALSE;
        }
        let months: i64 = (1..month).map(|month| days_of_month(year, month)).sum();
        let days = days_before(year) + months + i64::from(Day) - 1;
        let minutes = i64::from(Hour) * 60 + i64::from(Minute);
        let ms = (minutes * 60 + i64::from(Second)) * 1000 + i64::from(Milliseconds);
        // SAFETY: the caller gives storage for the time.
        unsafe { time.write((days * MS_PER_DAY + ms) * UNITS_PER_MS) };
        TRUE
    }
}

kernel_test! {
    /// *RtlTimeToTimeFields function*, *RtlTimeFieldsToTime function*: the two are each other's inverse.
    fn a_time_becomes_a_date_and_the_same_time_again() {
        // 1601-01-01 (a Monday), 1970-01-01 (a Thursday), 2000-02-29 12:34:56.789 (a Tuesday).
        let cases = [
            (0i64, [1601i16, 1, 1, 0, 0, 0, 0, 1]),
            (116_444_736_000_000_000, [1970, 1, 1, 0, 0, 0, 0, 4]),
            (125_963_012_967_890_000, [2000, 2, 29, 12, 34, 56, 789, 2]),
        ];
        for (time, expected) in cases {
            let mut fields = core::mem::MaybeUninit::<TIME_FIELDS>::uninit();
            let mut again = 0;
            // SAFETY: locals of the right kind; the first call fills the fields in.
            unsafe {
                RtlTimeToTimeFields(&raw const time, fields.as_mut_ptr());
                check!(fields.as_ptr().cast::<[i16; 8]>().read() == expected);
                check!(RtlTimeFieldsToTime(fields.as_ptr(), &raw mut again) == TRUE && again == time);
                (*fields.as_mut_ptr()).Day = 32;
                check!(RtlTimeFieldsToTime(fields.as_ptr(), &raw mut again) == FALSE);
            }
        }
    }
}

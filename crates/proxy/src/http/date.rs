//! The `date` header, made once a second.

use std::cell::{Cell, RefCell};
use std::time::{SystemTime, UNIX_EPOCH};

/// The text of the current second (RFC 9110, 5.6.7).
#[derive(Debug, Default)]
pub(crate) struct DateCache {
    second: Cell<u64>,
    text: RefCell<String>,
}

impl DateCache {
    /// Calls `with` with the text of `now`.
    pub(crate) fn with<R>(&self, now: SystemTime, with: impl FnOnce(&[u8]) -> R) -> R {
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second != self.second.get() || self.text.borrow().is_empty() {
            self.second.set(second);
            *self.text.borrow_mut() = imf_fixdate(second);
        }
        with(self.text.borrow().as_bytes())
    }
}

pub(crate) const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
pub(crate) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A day of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: u64,
    /// 1 to 12.
    pub(crate) month: u64,
    /// 1 to 31.
    pub(crate) day: u64,
    /// 0 is Sunday.
    pub(crate) weekday: usize,
    /// 1 to 366.
    pub(crate) day_of_year: u64,
}

impl Civil {
    /// The day that many days after 1970-01-01, counting years from March.
    pub(crate) fn of(days: u64) -> Self {
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * from_march + 2) / 153;
        let day = from_march - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let day_of_year = if month > 2 { from_march + 60 + u64::from(leap) } else { from_march - 305 };
        Self { year, month, day, weekday: ((days + 4) % 7) as usize, day_of_year }
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn imf_fixdate(second: u64) -> String {
    let (days, rest) = (second / 86_400, second % 86_400);
    let Civil { year, month, day, weekday, .. } = Civil::of(days);
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} GMT",
        &DAYS[weekday][..3],
        &MONTHS[(month - 1) as usize][..3],
        rest / 3600,
        rest % 3600 / 60,
        rest % 60
    )
}

#[cfg(test)]
mod date_test {
    use super::imf_fixdate;

    #[test]
    fn formats_known_dates() {
        assert_eq!(imf_fixdate(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(imf_fixdate(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(imf_fixdate(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(imf_fixdate(4_102_444_799), "Thu, 31 Dec 2099 23:59:59 GMT");
    }
}

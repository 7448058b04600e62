//! Times in a line, as `strftime` and Envoy write them. All are UTC.

use std::time::Duration;

use crate::http::date::{Civil, DAYS, MONTHS};

/// What `%START_TIME%` without a format is.
const DEFAULT: &str = "%Y-%m-%dT%H:%M:%E3SZ";

/// A format, parsed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimeFormat(Box<[Part]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<[u8]>),
    Year,
    ShortYear,
    Month,
    Day,
    PaddedDay,
    DayOfYear,
    Hour,
    Hour12,
    HalfDay,
    Minute,
    Second,
    /// So many digits of the second; none: behind a dot, all but the zeros at the end.
    Fraction(Option<usize>),
    Epoch,
    Weekday {
        whole: bool,
    },
    MonthName {
        whole: bool,
    },
    WeekdayNumber,
}

impl TimeFormat {
    /// The format of `%START_TIME%`.
    pub(super) fn standard() -> Result<Self, String> {
        Self::parse(DEFAULT)
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        push(text, &mut parts)?;
        Ok(Self(parts.into()))
    }

    /// Appends a time since 1970.
    pub(super) fn write(&self, since: Duration, out: &mut Vec<u8>) {
        let (seconds, nanos) = (since.as_secs(), since.subsec_nanos());
        let (day, rest) = (Civil::of(seconds / 86_400), seconds % 86_400);
        let hour = rest / 3600;
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Year => number(day.year, 4, b'0', out),
                Part::ShortYear => two(day.year % 100, out),
                Part::Month => two(day.month, out),
                Part::Day => two(day.day, out),
                Part::PaddedDay => number(day.day, 2, b' ', out),
                Part::DayOfYear => number(day.day_of_year, 3, b'0', out),
                Part::Hour => two(hour, out),
                Part::Hour12 => two((hour + 11) % 12 + 1, out),
                Part::HalfDay => out.extend_from_slice(if hour < 12 { b"AM" } else { b"PM" }),
                Part::Minute => two(rest % 3600 / 60, out),
                Part::Second => two(rest % 60, out),
                Part::Fraction(digits) => fraction(nanos, *digits, out),
                Part::Epoch => number(seconds, 1, b'0', out),
                Part::Weekday { whole } => name(DAYS[day.weekday], *whole, out),
                Part::MonthName { whole } => name(MONTHS[(day.month - 1) as usize], *whole, out),
                Part::WeekdayNumber => number(day.weekday as u64, 1, b'0', out),
            }
        }
    }
}

fn push(text: &str, parts: &mut Vec<Part>) -> Result<(), String> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        literal(&rest[..at], parts);
        let behind = &rest[at + 1..];
        let unknown =
            || format!("time format {text:?}: %{} is not built", behind.chars().next().unwrap_or(' '));
        let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
        let (specifier, used) = match behind.as_bytes().get(digits).ok_or_else(unknown)? {
            b'f' => {
                let digits = if digits == 0 { 9 } else { behind[..digits].parse().map_err(|_| unknown())? };
                (vec![Part::Fraction(Some(digits).filter(|most| (1..=9).contains(most)))], 1)
            }
            _ if digits > 0 => return Err(unknown()),
            b'E' => extended(&behind[1..]).ok_or_else(unknown)?,
            other => match simple(*other).ok_or_else(unknown)? {
                Simple::Part(part) => (vec![part], 1),
                Simple::Text(same) => {
                    push(same, parts)?;
                    (Vec::new(), 1)
                }
                Simple::Literal(same) => {
                    literal(same, parts);
                    (Vec::new(), 1)
                }
            },
        };
        parts.extend(specifier);
        rest = &behind[digits + used..];
    }
    literal(rest, parts);
    Ok(())
}

/// `%E3S`, `%E*S`: seconds with a fraction; `%E4Y`.
fn extended(text: &str) -> Option<(Vec<Part>, usize)> {
    let bytes = text.as_bytes();
    let fraction = match (bytes.first()?, bytes.get(1)?) {
        (b'*', b'S') => None,
        (digit @ b'1'..=b'9', b'S') => Some(usize::from(digit - b'0')),
        (b'4', b'Y') => return Some((vec![Part::Year], 3)),
        _ => return None,
    };
    Some((vec![Part::Second, Part::Text(b"."[..].into()), Part::Fraction(fraction)], 3))
}

enum Simple {
    Part(Part),
    Text(&'static str),
    Literal(&'static str),
}

fn simple(specifier: u8) -> Option<Simple> {
    Some(match specifier {
        b'Y' => Simple::Part(Part::Year),
        b'y' => Simple::Part(Part::ShortYear),
        b'm' => Simple::Part(Part::Month),
        b'd' => Simple::Part(Part::Day),
        b'e' => Simple::Part(Part::PaddedDay),
        b'j' => Simple::Part(Part::DayOfYear),
        b'H' => Simple::Part(Part::Hour),
        b'I' => Simple::Part(Part::Hour12),
        b'p' => Simple::Part(Part::HalfDay),
        b'M' => Simple::Part(Part::Minute),
        b'S' => Simple::Part(Part::Second),
        b's' => Simple::Part(Part::Epoch),
        b'a' => Simple::Part(Part::Weekday { whole: false }),
        b'A' => Simple::Part(Part::Weekday { whole: true }),
        b'b' | b'h' => Simple::Part(Part::MonthName { whole: false }),
        b'B' => Simple::Part(Part::MonthName { whole: true }),
        b'w' => Simple::Part(Part::WeekdayNumber),
        b'F' => Simple::Text("%Y-%m-%d"),
        b'T' => Simple::Text("%H:%M:%S"),
        b'R' => Simple::Text("%H:%M"),
        b'D' => Simple::Text("%m/%d/%y"),
        b'Z' => Simple::Literal("UTC"),
        b'z' => Simple::Literal("+0000"),
        b'n' => Simple::Literal("\n"),
        b't' => Simple::Literal("\t"),
        b'%' => Simple::Literal("%"),
        _ => return None,
    })
}

fn literal(text: &str, parts: &mut Vec<Part>) {
    if !text.is_empty() {
        parts.push(Part::Text(text.as_bytes().into()));
    }
}

fn name(name: &str, whole: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if whole { name } else { &name[..3] }.as_bytes());
}

fn fraction(nanos: u32, digits: Option<usize>, out: &mut Vec<u8>) {
    if digits == Some(3) {
        let millis = u64::from(nanos / 1_000_000);
        out.push(b'0' + (millis / 100) as u8);
        return two(millis % 100, out);
    }
    let from = out.len();
    number(nanos.into(), 9, b'0', out);
    match digits {
        Some(digits) => out.truncate(from + digits),
        None => {
            let zeros = out[from..].iter().rev().take_while(|digit| **digit == b'0').count();
            // Without a fraction there is no dot.
            out.truncate(out.len() - zeros - usize::from(zeros == 9));
        }
    }
}

/// Appends a number below 100.
fn two(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]);
}

/// Appends a number, filled up to `width`.
fn number(mut value: u64, width: usize, fill: u8, out: &mut Vec<u8>) {
    let (mut digits, mut at) = ([fill; 20], 20);
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at.min(20 - width)..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: &str, millis: u64) -> String {
        let mut out = Vec::new();
        TimeFormat::parse(format).unwrap().write(Duration::from_millis(millis), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_written_as_strftime_writes_them() {
        // 2024-02-29 08:05:09.042, a Thursday.
        let at = 1_709_193_909_042;
        for (format, text) in [
            (DEFAULT, "2024-02-29T08:05:09.042Z"),
            ("%F %T", "2024-02-29 08:05:09"),
            ("%d/%b/%Y:%H:%M:%S %z", "29/Feb/2024:08:05:09 +0000"),
            ("%a %A %b %B %e %j %y %D", "Thu Thursday Feb February 29 060 24 02/29/24"),
            ("%s.%3f %1f %f", "1709193909.042 0 042000000"),
            ("%E3S %E*S %E6S", "09.042 09.042 09.042000"),
            ("%I %p %w %Z %%", "08 AM 4 UTC %"),
        ] {
            assert_eq!(written(format, at), text, "{format}");
        }
        assert_eq!(written("%j %e %p %I", 1_735_646_400_000), "366 31 PM 12");
        assert_eq!(written("%e", 0), " 1");
        assert_eq!(written("%E*S", 0), "00");
        assert!(TimeFormat::parse("%Q").unwrap_err().contains("%Q"));
        assert!(TimeFormat::parse("%").is_err());
    }
}

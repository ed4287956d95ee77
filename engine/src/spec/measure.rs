//! Times and sizes with their units: `90s`, `1h30m`, `8GiB`.

use std::time::Duration;

use super::node::{Data, Node};

const TIMES: [(&str, u64); 5] = [("s", 1), ("m", 60), ("min", 60), ("h", 3600), ("d", 86_400)];
const SIZES: [(&str, u64); 7] = [
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];
/// Longer is as good as no limit.
const LONGEST: u64 = 366 * 86_400;

/// A time: seconds as a number, or numbers with units. `None` for anything else, zero, or over a year.
pub(crate) fn duration(node: &Node) -> Option<Duration> {
    let time = match &node.data {
        Data::Number(seconds) => Duration::try_from_secs_f64(seconds.as_f64()?).ok()?,
        Data::Text(text) => Duration::from_secs(total(text, &TIMES)?),
        _ => return None,
    };
    (!time.is_zero() && time <= Duration::from_secs(LONGEST)).then_some(time)
}

/// A time as a person writes it: `90s`, `1h30m`.
pub fn time(text: &str) -> Option<Duration> {
    let time = Duration::from_secs(total(text, &TIMES)?);
    (!time.is_zero()).then_some(time)
}

/// A size in bytes: numbers with units.
pub(crate) fn size(node: &Node) -> Option<u64> {
    total(node.as_text()?, &SIZES).filter(|bytes| *bytes > 0)
}

/// The sum of `text`'s numbers, each whole and with its unit.
fn total(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let mut rest = text.trim();
    let mut sum: Option<u64> = None;
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let behind = behind.trim_start();
        let end = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
        let part = number.parse::<u64>().ok()?.checked_mul(*factor)?;
        sum = Some(sum.unwrap_or(0).checked_add(part)?);
        rest = behind.trim_start();
    }
    sum
}

#[cfg(test)]
mod tests {
    use serde_json::Number;

    use super::*;
    use crate::spec::At;

    fn text(text: &str) -> Node {
        Node { data: Data::Text(text.to_owned()), at: At::default() }
    }

    fn number(number: f64) -> Node {
        Node { data: Data::Number(Number::from_f64(number).unwrap()), at: At::default() }
    }

    #[test]
    fn times_have_units_or_are_seconds() {
        let seconds = |node: &Node| duration(node).map(|it| it.as_secs_f64());
        assert_eq!(seconds(&text("90s")), Some(90.0));
        assert_eq!(seconds(&text("10m")), Some(600.0));
        assert_eq!(seconds(&text("10 min")), Some(600.0));
        assert_eq!(seconds(&text("1h30m")), Some(5400.0));
        assert_eq!(seconds(&text("2d 1h")), Some(176_400.0));
        assert_eq!(seconds(&number(1.5)), Some(1.5));
        for wrong in
            ["", "90", "s", "-1s", "1.5h", "10 parsecs", "0s", "99999d", "9999999999999999999d"]
        {
            assert_eq!(seconds(&text(wrong)), None, "{wrong}");
        }
        for wrong in [0.0, -1.0, 1e12, 1e300] {
            assert_eq!(seconds(&number(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size(&text("8GiB")), Some(8 << 30));
        assert_eq!(size(&text("500 MB")), Some(500_000_000));
        for wrong in ["", "8", "8G", "GiB", "-8GiB", "0GB", "99999999999TiB"] {
            assert_eq!(size(&text(wrong)), None, "{wrong}");
        }
        assert_eq!(size(&number(8.0)), None);
    }
}

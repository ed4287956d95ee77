//! `gradus sweep`.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use gradus_cache::Limits;
use gradus_engine::run::sweep;

use super::common::CacheArgs;
use crate::{failure::Failure, terminal::Terminal};

/// Say what the cache could do without; with `--delete`, delete it
///
/// Without limits that is what nothing refers to. What runs under way, pinned runs and recent runs use
/// always stays.
#[derive(Debug, Args)]
pub(crate) struct Sweep {
    /// Results, checkpoints and damaged files that nobody used for so long, e.g. `30d` or `12h`
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<Duration>,
    /// The longest unused results, until what stays takes no more than this, e.g. `50GB`
    #[arg(long, value_name = "SIZE", value_parser = size)]
    keep_size: Option<u64>,
    /// With `--older-than`: also the events and logs of runs
    #[arg(long, requires = "older_than")]
    runs: bool,
    /// Leave everything that was used within this time
    #[arg(long, value_name = "AGE", value_parser = age, default_value = "1h")]
    grace: Duration,
    /// Delete, instead of only saying what would be
    #[arg(long)]
    delete: bool,
    #[command(flatten)]
    cache: CacheArgs,
}

impl Sweep {
    pub(crate) fn exec(self, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let cache = self.cache.open()?;
        let limits =
            Limits { unused_for: self.older_than, keep_bytes: self.keep_size, grace: self.grace };
        let swept = sweep(&cache, &limits, self.runs, self.delete)?;
        terminal.swept(&swept, self.delete, self.grace);
        Ok(ExitCode::SUCCESS)
    }
}

fn age(text: &str) -> Result<Duration, String> {
    let units = [("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86400.0), ("w", 604_800.0)];
    let seconds = measured(text, &units).ok_or("write an age like `30d`, `12h` or `45min`")?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "that is too long".to_owned())
}

fn size(text: &str) -> Result<u64, String> {
    let units = [("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12)];
    let bytes = measured(text, &units).ok_or("write a size like `50GB` or `500MB`")?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let bytes = bytes as u64;
    Ok(bytes)
}

/// A number and its unit. Large and small letters are the same.
fn measured(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(at);
    let unit = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?;
    Some(number.parse::<f64>().ok()? * unit.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_have_units() {
        assert_eq!(age("30d"), Ok(Duration::from_hours(720)));
        assert_eq!(age("1.5 h"), Ok(Duration::from_mins(90)));
        assert_eq!(size("50GB"), Ok(50_000_000_000));
        assert_eq!(size("0.5kb"), Ok(500));
        for wrong in ["", "30", "d", "-1d", "1.2.3d", "3 months", "99999999999999999999999999w"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
        assert!(size("50").is_err());
    }
}

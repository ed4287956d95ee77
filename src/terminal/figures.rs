//! Final numbers of a stage, as a person reads them: an interval stands behind its number.
//!
//! The convention of the stage kinds: `x_low` and `x_high` bound `x`.

use gradus_engine::event::Metrics;

use super::paint::number;

/// A number with its name and, in words, what belongs to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) words: String,
}

/// One figure for each number that is not part of another.
pub(super) fn figures(metrics: &Metrics) -> Vec<Figure> {
    let words = |value: &Option<f64>| value.map_or_else(|| "not finite".to_owned(), number);
    let figure = |(name, value): (&String, &Option<f64>)| {
        let part_of = |end: &str| name.strip_suffix(end).is_some_and(|it| metrics.contains_key(it));
        if part_of("_low") || part_of("_high") {
            return None;
        }
        let bound = |end: &str| metrics.get(&format!("{name}{end}"));
        let rest = match (bound("_low"), bound("_high")) {
            (Some(low), Some(high)) => format!(" ({} to {})", words(low), words(high)),
            _ => String::new(),
        };
        Some(Figure { name: name.clone(), words: format!("{}{rest}", words(value)) })
    };
    metrics.iter().filter_map(figure).collect()
}

/// At most `most` figures in one line.
pub(super) fn in_one_line(metrics: &Metrics, most: usize) -> String {
    let figures = figures(metrics).into_iter().take(most);
    figures.map(|it| format!("{} {}", it.name, it.words)).collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_stand_behind_their_number() {
        let metrics = Metrics::from(
            [
                ("accuracy", Some(0.75)),
                ("accuracy_high", Some(0.8)),
                ("accuracy_low", Some(0.7)),
                ("kl", None),
                ("reward", Some(-1.5)),
                ("reward_high", Some(-1.25)),
                ("reward_low", Some(-1.75)),
                ("tide_low", Some(3.0)),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        insta::assert_snapshot!(
            in_one_line(&metrics, 9),
            @"accuracy 0.7500 (0.7000 to 0.8000)  kl not finite  reward -1.500 (-1.750 to -1.250)  tide_low 3"
        );
    }
}

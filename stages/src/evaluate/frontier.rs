//! The figure of a comparison: reward against KL.
//!
//! Candidates of one stage that differ along one numeric axis are joined by a line, in the order of that axis;
//! every other axis makes a series of its own.

use std::collections::BTreeSet;

use gradus_plot::{Figure, Level, Look, Point, Series};

use super::{label::Label, rows::Row, samples::Reward};

/// Draws rows that have a KL. A baseline without one is a level.
pub(super) fn figure(title: &str, rows: &[Row], reward: Reward, over: &str) -> Figure {
    let mut series: Vec<Series> = Vec::new();
    let level = rows.iter().find(|row| row.baseline && row.kl.is_none());
    for row in in_order(rows) {
        let Some((point, name)) = point(row, rows, reward) else { continue };
        let known = series.iter_mut().find(|it| it.name == name && it.look != Look::Hollow);
        match known {
            Some(known) if !row.baseline => {
                known.points.push(point);
                known.look = Look::Path;
            }
            _ => {
                let look = if row.baseline { Look::Hollow } else { Look::Marks };
                series.push(Series { name, points: vec![point], look });
            }
        }
    }
    Figure {
        title: title.to_owned(),
        x: "KL from the reference, nats per completion".to_owned(),
        y: format!("{}, 95 % interval over {over}", reward.words()),
        from_zero: true,
        series,
        level: level.and_then(|row| Some(Level { name: named(row), y: row.reward(reward)?.value })),
    }
}

fn named(row: &Row) -> String {
    if row.baseline { format!("{} (baseline)", row.name) } else { row.name.clone() }
}

/// Rows by stage, and along each axis by its values.
fn in_order(rows: &[Row]) -> Vec<&Row> {
    let mut ordered: Vec<&Row> = rows.iter().collect();
    let series = |row: &Row| (row.baseline, series_of(row, rows));
    let value = |row: &Row| {
        let value =
            along(&row.label.stage, rows).and_then(|axis| row.label.value(&axis)?.parse().ok());
        value.unwrap_or(f64::NEG_INFINITY)
    };
    ordered.sort_by(|a, b| series(a).cmp(&series(b)).then_with(|| value(a).total_cmp(&value(b))));
    ordered
}

/// The label of the series that a row belongs to.
fn series_of(row: &Row, rows: &[Row]) -> Label {
    along(&row.label.stage, rows).map_or(row.label.clone(), |axis| row.label.without(&axis))
}

/// The axis of a stage's candidates that has the most values, all of them numbers.
fn along(stage: &str, rows: &[Row]) -> Option<String> {
    let labels: Vec<&Label> =
        rows.iter().map(|row| &row.label).filter(|label| label.stage == stage).collect();
    let values = |axis: &str| -> BTreeSet<&str> {
        labels.iter().filter_map(|label| label.value(axis)).collect()
    };
    let numeric = |axis: &str| values(axis).iter().all(|it| it.parse::<f64>().is_ok());
    let axes = labels.first()?.axes.iter().map(|(name, _)| name).filter(|axis| numeric(axis));
    // Of axes with as many values the first.
    let best = axes.rev().max_by_key(|axis| values(axis).len())?;
    (values(best).len() > 1).then(|| best.clone())
}

/// A row's place, and what its series is called.
fn point(row: &Row, rows: &[Row], reward: Reward) -> Option<(Point, String)> {
    let (kl, reward) = (row.kl?, row.reward(reward)?);
    let interval = reward.interval.map(|it| (it.low, it.high));
    let place = |name: String| Point { x: kl.value, y: reward.value, interval, name };
    let axis = along(&row.label.stage, rows).filter(|_| !row.baseline);
    Some(match axis.as_ref().and_then(|axis| Some((axis, row.label.value(axis)?))) {
        Some((axis, value)) => (place(format!("{axis}={value}")), series_of(row, rows).to_string()),
        None => (place(String::new()), named(row)),
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{candidate::tests::candidate, rows},
        *,
    };

    fn drawn(names: &[&str]) -> Figure {
        let one = |(i, name): (usize, &&str)| candidate(name, i as f64, i as f64);
        let candidates: Vec<_> = names.iter().enumerate().map(one).collect();
        let rows = rows::rows(&candidates, None).unwrap();
        figure("Frontier", &rows, Reward::TrueReward, "prompts")
    }

    fn series(figure: &Figure) -> Vec<(String, Look, Vec<String>)> {
        let names = |it: &Series| it.points.iter().map(|point| point.name.clone()).collect();
        figure.series.iter().map(|it| (it.name.clone(), it.look, names(it))).collect()
    }

    #[test]
    fn a_line_goes_along_one_axis_and_another_axis_is_another_line() {
        let names = [
            "dpo[beta=0.1,loss=ipo]",
            "dpo[beta=10,loss=ipo]",
            "dpo[beta=2,loss=ipo]",
            "dpo[beta=2,loss=hinge]",
            "dpo[beta=0.1,loss=hinge]",
            "sft",
        ];
        let betas =
            |values: &[&str]| values.iter().map(|it| format!("beta={it}")).collect::<Vec<_>>();
        assert_eq!(
            series(&drawn(&names)),
            [
                ("dpo[loss=hinge]".to_owned(), Look::Path, betas(&["0.1", "2"])),
                ("dpo[loss=ipo]".to_owned(), Look::Path, betas(&["0.1", "2", "10"])),
                ("sft (baseline)".to_owned(), Look::Hollow, vec![String::new()]),
            ]
        );
    }

    #[test]
    fn what_has_no_numeric_axis_stands_alone() {
        let found = series(&drawn(&["dpo[loss=ipo]", "dpo[loss=hinge]", "ppo"]));
        let names: Vec<_> = found.iter().map(|(name, look, _)| (name.as_str(), *look)).collect();
        let marks = Look::Marks;
        assert_eq!(names, [("dpo[loss=hinge]", marks), ("dpo[loss=ipo]", marks), ("ppo", marks)]);
    }

    #[test]
    fn a_baseline_without_kl_is_a_level() {
        let mut candidates = [candidate("dpo", 1.0, 2.0), candidate("sft", 0.0, 0.0)];
        candidates[1].evaluation.kl = None;
        let rows = rows::rows(&candidates, None).unwrap();
        let drawn = figure("Frontier", &rows, Reward::TrueReward, "prompts");
        assert_eq!(drawn.level, Some(Level { name: "sft (baseline)".to_owned(), y: 0.75 }));
        assert_eq!(drawn.series.len(), 1);
    }
}

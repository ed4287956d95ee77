//! Curves of training over each other, a figure for each column.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use gradus_plot::{Figure, Look, Point, Series};
use maud::html;
use serde_json::Value;

use super::document::{Section, drawn};
use crate::{
    artifact,
    error::StageError,
    evaluate::label::{Label, named, quoted},
    nn::statistics::mean,
    port::{Many, file_of},
};

/// What is drawn where nothing is asked for, as far as there is any.
const USUAL: [&str; 6] = ["loss", "accuracy", "reward", "kl", "kl_completion", "entropy"];

/// Points of one line. A longer curve is shown by means over neighbouring steps.
const POINTS: usize = 200;

/// The columns of one curve, or of its replicates: at each step the values.
#[derive(Debug)]
pub(crate) struct Curve {
    label: Label,
    columns: BTreeMap<String, BTreeMap<u64, Vec<f64>>>,
    replicates: usize,
}

/// Reads curves under their names. Those that differ in `axis` alone become one.
pub(crate) fn read(
    came: &Many<artifact::Metrics>,
    names: &BTreeMap<String, String>,
    axis: Option<&str>,
) -> Result<Vec<Curve>, StageError> {
    let labels: Vec<String> = came.0.iter().map(|(name, _)| name.clone()).collect();
    let mut curves: Vec<Curve> = Vec::new();
    for (label, (name, it)) in named(&labels, names)?.into_iter().zip(&came.0) {
        let path = file_of(&it.source)?;
        let text = fs::read_to_string(path).map_err(StageError::file(path))?;
        let label = axis.map_or(label.clone(), |axis| label.without(axis));
        let known = curves.iter().position(|it| it.label == label);
        let at = known.unwrap_or_else(|| {
            curves.push(Curve { label, columns: BTreeMap::new(), replicates: 0 });
            curves.len() - 1
        });
        if known.is_some() && axis.is_none() {
            let name = curves[at].label.to_string();
            return Err(StageError::refused(format!(
                "two curves would both be called `{name}`: name them apart in `labels`"
            )));
        }
        curves[at].take(&text).map_err(|why| StageError::refused(format!("`{name}`: {why}")))?;
    }
    Ok(curves)
}

impl Curve {
    fn take(&mut self, text: &str) -> Result<(), String> {
        self.replicates += 1;
        for (at, line) in text.lines().enumerate() {
            let step: Value = serde_json::from_str(line)
                .map_err(|error| format!("line {} is not JSON: {error}", at + 1))?;
            let number = step["step"].as_u64();
            let number = number.ok_or_else(|| format!("line {} has no `step`", at + 1))?;
            let values = step.as_object().into_iter().flatten();
            for (name, value) in values.filter(|(name, _)| *name != "step") {
                if let Some(value) = value.as_f64() {
                    let steps = self.columns.entry(name.clone()).or_default();
                    steps.entry(number).or_default().push(value);
                }
            }
        }
        Ok(())
    }

    /// At each step the mean over replicates, where all are still under way.
    fn line(&self, metric: &str) -> Option<Vec<(f64, f64)>> {
        let steps = self.columns.get(metric)?.iter();
        let all = steps.filter(|(_, values)| values.len() == self.replicates);
        Some(all.map(|(step, values)| (*step as f64, mean(values))).collect())
    }
}

/// Neighbours averaged until no more than `most` points are left.
fn thinned(line: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let together = line.len().div_ceil(most).max(1);
    let of = |part: &[(f64, f64)], which: fn(&(f64, f64)) -> f64| {
        mean(&part.iter().map(which).collect::<Vec<_>>())
    };
    line.chunks(together).map(|part| (of(part, |it| it.0), of(part, |it| it.1))).collect()
}

fn figure(metric: &str, curves: &[Curve]) -> Figure {
    let series = |curve: &Curve| {
        let line = thinned(&curve.line(metric)?, POINTS);
        let point = |(x, y)| Point { x, y, interval: None, name: String::new() };
        let points = line.into_iter().map(point).collect();
        Some(Series { name: curve.label.to_string(), points, look: Look::Curve })
    };
    Figure {
        title: metric.to_owned(),
        x: "step".to_owned(),
        y: metric.to_owned(),
        from_zero: true,
        series: curves.iter().filter_map(series).collect(),
        level: None,
    }
}

/// A figure for each column that was asked for, or each usual one.
pub(crate) fn section(curves: &[Curve], asked: &[String]) -> Result<Section, StageError> {
    let known: BTreeSet<&str> =
        curves.iter().flat_map(|it| it.columns.keys()).map(String::as_str).collect();
    let unknown = asked.iter().find(|metric| !known.contains(metric.as_str()));
    if let Some(unknown) = unknown {
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        return Err(StageError::refused(format!(
            "`metrics` names `{unknown}`, which no curve has: there are {}",
            quoted(&known)
        )));
    }
    let usual = USUAL.into_iter().filter(|metric| known.contains(metric));
    let metrics: Vec<&str> =
        if asked.is_empty() { usual.collect() } else { asked.iter().map(String::as_str).collect() };
    let drawn: Vec<_> =
        metrics.iter().map(|metric| drawn(&figure(metric, curves))).collect::<Result<_, _>>()?;
    let replicated = curves.iter().any(|it| it.replicates > 1);
    let content = html! {
        @if replicated { p { "A line is the mean over replicates, as far as all of them go." } }
        @if drawn.is_empty() { p { "None of the usual columns is there: name some in `metrics`." } }
        div.grid { @for figure in drawn { (figure) } }
    };
    Ok(Section { title: "Curves".to_owned(), content })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::label::tests::labels;

    fn curve(texts: &[&str]) -> Curve {
        let label = labels(&["ppo"]).remove(0);
        let mut curve = Curve { label, columns: BTreeMap::new(), replicates: 0 };
        for text in texts {
            curve.take(text).unwrap();
        }
        curve
    }

    #[test]
    fn replicates_become_their_mean_where_all_are_there() {
        let long =
            "{\"step\":1,\"loss\":2.0}\n{\"step\":2,\"loss\":1.0}\n{\"step\":3,\"loss\":0.5}\n";
        let short = "{\"step\":1,\"loss\":4.0}\n{\"step\":2,\"loss\":3.0,\"kl\":0.1}\n";
        let both = curve(&[long, short]);
        assert_eq!(both.line("loss").unwrap(), [(1.0, 3.0), (2.0, 2.0)]);
        assert_eq!(both.line("kl").unwrap(), []);
        assert_eq!(both.line("reward"), None);
    }

    #[test]
    fn a_long_curve_is_thinned_to_means() {
        let line: Vec<_> = (1..=5).map(|i| (f64::from(i), f64::from(i * i))).collect();
        assert_eq!(thinned(&line, 5), line);
        assert_eq!(thinned(&line, 3), [(1.5, 2.5), (3.5, 12.5), (5.0, 25.0)]);
    }

    #[test]
    fn a_column_that_no_curve_has_is_refused() {
        let curves = [curve(&["{\"step\":1,\"loss\":2.0,\"lr\":1.0}\n"])];
        let error = section(&curves, &["reward".to_owned()]).err().unwrap().to_string();
        assert_eq!(error, "`metrics` names `reward`, which no curve has: there are `loss`, `lr`");
        let page = section(&curves, &[]).unwrap().content.into_string();
        assert_eq!(page.matches("<img").count(), 1, "the loss alone is usual");
    }
}

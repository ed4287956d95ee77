//! How far a reward was optimised past what it is good for: lines of proxy and true reward against √KL, told and drawn.

use std::fmt::Write as _;

use gradus_plot::{Figure, Look, Point, Series};

use crate::{
    error::StageError,
    nn::statistics::{Estimate, mean, mean_of},
};

/// One prompt or one training: a number for each point of its line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unit {
    /// Nats per completion.
    pub(super) kl: Vec<f64>,
    pub(super) proxy: Vec<f64>,
    pub(super) truth: Vec<f64>,
}

/// Points of growing optimisation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) name: String,
    /// What points are called: the step that they end with, or `n=4`.
    pub(super) names: Vec<String>,
    /// Whether it is of the best of n samples, not of a training.
    pub(super) of_samples: bool,
    pub(super) units: Vec<Unit>,
    /// Where an experiment was repeated: each repetition's mean, which then stand for the units.
    pub(super) replicates: Vec<Unit>,
}

/// What is told of lines.
pub(super) struct Told<'a> {
    pub(super) title: &'a str,
    pub(super) lines: &'a [Line],
    /// The axis whose points are replicates.
    pub(super) replicates: Option<&'a str>,
}

impl Line {
    fn each(&self) -> &[Unit] {
        if self.replicates.is_empty() { &self.units } else { &self.replicates }
    }

    fn at(&self, of: Numbers, point: usize) -> Vec<f64> {
        self.each().iter().map(|unit| of(unit)[point]).collect()
    }

    fn means(&self, of: Numbers) -> Vec<f64> {
        (0..self.names.len()).map(|point| mean(&self.at(of, point))).collect()
    }

    /// All units as one.
    pub(super) fn mean(&self) -> Unit {
        Unit { kl: self.means(kl), proxy: self.means(proxy), truth: self.means(truth) }
    }

    /// √KL of a point, in √nats; an estimate below 0 counts as 0.
    pub(super) fn root_kl(&self, point: usize) -> f64 {
        mean(&self.at(kl, point)).max(0.0).sqrt()
    }

    /// The first point at which the true reward is the highest.
    pub(super) fn peak(&self) -> usize {
        let means = self.means(truth);
        (0..means.len())
            .reduce(|best, it| if means[it] > means[best] { it } else { best })
            .unwrap_or(0)
    }

    /// The true reward at its peak less that at the end, over units.
    pub(super) fn lost(&self) -> Estimate {
        let (peak, last) = (self.peak(), self.names.len() - 1);
        let of = |unit: &Unit| unit.truth[peak] - unit.truth[last];
        let losses: Vec<f64> = self.each().iter().map(of).collect();
        mean_of(&losses).unwrap_or(Estimate { value: 0.0, interval: None })
    }

    pub(super) fn proxy_after_peak(&self) -> f64 {
        let means = self.means(proxy);
        means[means.len() - 1] - means[self.peak()]
    }

    /// The coefficients α and β of the true reward's gain: R(d) = d (α − β d) of the best of n, R(d) = d (α − β ln d) of a training,
    /// with d = √KL (Gao et al. 2022, eq. 1 and 2), by least squares. None of fewer than three points with a divergence.
    fn law(&self) -> Option<[f64; 2]> {
        let means = self.means(truth);
        let point = |at: usize| (self.root_kl(at), means[at] - means[0]);
        let points = (0..means.len()).map(point).filter(|it| it.0 > 0.0);
        let bends = |d: f64| if self.of_samples { -d * d } else { -d * d.ln() };
        let rows: Vec<[f64; 3]> = points.map(|(d, gain)| [d, bends(d), gain]).collect();
        let sum = |i: usize, j: usize| rows.iter().map(|row| row[i] * row[j]).sum::<f64>();
        let determinant = sum(0, 0) * sum(1, 1) - sum(0, 1).powi(2);
        if rows.len() < 3 || determinant <= 1e-12 * sum(0, 0) * sum(1, 1) {
            return None;
        }
        let alpha = (sum(0, 2) * sum(1, 1) - sum(1, 2) * sum(0, 1)) / determinant;
        let beta = (sum(1, 2) * sum(0, 0) - sum(0, 2) * sum(0, 1)) / determinant;
        Some([alpha, beta])
    }
}

/// One number for each point of a unit.
type Numbers = fn(&Unit) -> &[f64];

fn kl(unit: &Unit) -> &[f64] {
    &unit.kl
}
fn proxy(unit: &Unit) -> &[f64] {
    &unit.proxy
}
fn truth(unit: &Unit) -> &[f64] {
    &unit.truth
}

pub(super) fn csv(told: &Told) -> Result<String, StageError> {
    let wrong = |error: String| StageError::refused(format!("the table: {error}"));
    let mut table = csv::Writer::from_writer(Vec::new());
    let header = [
        "line",
        "point",
        "kl",
        "root_kl",
        "proxy",
        "proxy_low",
        "proxy_high",
        "true_reward",
        "true_reward_low",
        "true_reward_high",
        "units",
    ];
    table.write_record(header).map_err(|error| wrong(error.to_string()))?;
    for line in told.lines {
        for (point, name) in line.names.iter().enumerate() {
            let mut record = vec![line.name.clone(), name.clone()];
            record
                .extend([mean(&line.at(kl, point)), line.root_kl(point)].map(|it| it.to_string()));
            for reward in [proxy, truth] {
                let found = mean_of(&line.at(reward, point));
                let bounds = found.and_then(|it| it.interval);
                let numbers =
                    [found.map(|it| it.value), bounds.map(|it| it.low), bounds.map(|it| it.high)];
                record.extend(numbers.map(|it| it.map_or(String::new(), |it| it.to_string())));
            }
            record.push(line.each().len().to_string());
            table.write_record(record).map_err(|error| wrong(error.to_string()))?;
        }
    }
    let bytes = table.into_inner().map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))
}

pub(super) fn markdown(told: &Told) -> String {
    let mut text = format!("# {}\n\n", told.title);
    text +=
        "| | | √KL | proxy | true reward | lost since the peak | proxy gained since | α | β |\n";
    text += "| :-- | :-- | --: | --: | --: | --: | --: | --: | --: |\n";
    for line in told.lines {
        let (peak, end_at) = (line.peak(), line.names.len() - 1);
        let (proxies, truths) = (line.means(proxy), line.means(truth));
        let row = |word: &str, at: usize| {
            format!(
                "{word}, {} | {:.2} | {:.3} | {:.3}",
                named(line, at),
                line.root_kl(at),
                proxies[at],
                truths[at]
            )
        };
        let name = line.name.replace('|', "\\|");
        let _ = writeln!(text, "| {name} | {} | | | | |", row("start", 0));
        if peak != 0 && peak != end_at {
            let _ = writeln!(text, "| | {} | | | | |", row("peak of the true reward", peak));
        }
        let lost = line.lost();
        let bounds =
            lost.interval.map_or(String::new(), |it| format!(" ({:.3} to {:.3})", it.low, it.high));
        let lost =
            if peak == end_at { "–".to_owned() } else { format!("{:.3}{bounds}", lost.value) };
        let gained = if peak == end_at {
            "–".to_owned()
        } else {
            format!("{:.3}", line.proxy_after_peak())
        };
        let law = line
            .law()
            .map_or(["–".to_owned(), "–".to_owned()], |law| law.map(|it| format!("{it:.3}")));
        let end = if peak == end_at { "end, and peak of the true reward" } else { "end" };
        let _ = writeln!(
            text,
            "| | {} | {lost} | {gained} | {} | {} |",
            row(end, end_at),
            law[0],
            law[1]
        );
    }
    text + &legend(told)
}

fn named(line: &Line, at: usize) -> String {
    if line.of_samples { line.names[at].clone() } else { format!("step {}", line.names[at]) }
}

/// What the numbers mean, as far as they are there.
fn legend(told: &Told) -> String {
    let mut text = "\n√KL is in √nats, of completions from the reference. ".to_owned();
    text += "The peak is the highest of several points that chance moves, so a little\nis lost even where nothing is: what counts is an \
             interval that is above 0. Intervals hold 95 %, ";
    text += match (told.replicates, told.lines.iter().any(|it| it.of_samples)) {
        (Some(_), true) => "over replicates, and of what is not\nrepeated over prompts.\n",
        (Some(_), false) => "over replicates.\n",
        (None, true) => "over prompts; a single\ntraining has none.\n",
        (None, false) => "over replicates; a single\ntraining has none.\n",
    };
    if told.lines.iter().any(|it| it.of_samples) {
        text += "Of the best of n, KL is the upper bound ln n − (n − 1) / n (Beirami et al. 2024), and rewards are expected over all choices \
                 of n samples\n(Nakano et al. 2021).\n";
    }
    text += "α and β are of the gain in true reward with d = √KL, by least squares: ";
    text += "d (α − β d) of the best of n, d (α − β ln d) of a training\n(Gao et al. 2022).\n";
    text
}

/// The change of each reward since the start against √KL, as a share of its largest: the two are on scales of their own.
pub(super) fn figure(told: &Told) -> Figure {
    let gains = |line: &Line, of: Numbers| -> Vec<f64> {
        let means = line.means(of);
        means.iter().map(|it| it - means[0]).collect()
    };
    let largest = |of: Numbers| {
        let all = told.lines.iter().flat_map(|line| gains(line, of));
        all.map(f64::abs).fold(0.0, f64::max).max(f64::MIN_POSITIVE)
    };
    let scales = [largest(proxy), largest(truth)];
    let mut series = Vec::new();
    for line in told.lines {
        let rewards: [(&str, Numbers); 2] = [("proxy", proxy), ("true reward", truth)];
        for ((word, of), scale) in rewards.into_iter().zip(scales) {
            let point = |(at, gain): (usize, f64)| Point {
                x: line.root_kl(at),
                y: gain / scale,
                interval: None,
                name: if line.of_samples && word == "proxy" {
                    line.names[at].clone()
                } else {
                    String::new()
                },
            };
            series.push(Series {
                name: format!("{}: {word}", line.name),
                points: gains(line, of).into_iter().enumerate().map(point).collect(),
                look: if line.of_samples { Look::Path } else { Look::Curve },
            });
        }
    }
    Figure {
        title: told.title.to_owned(),
        x: "√KL from the reference, √nats".to_owned(),
        y: "change since the start, share of the largest".to_owned(),
        from_zero: true,
        series,
        level: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy that goes on where the truth turns back, of two prompts.
    fn line(of_samples: bool) -> Line {
        let kl: Vec<f64> = [0.0_f64, 1.0, 2.0, 3.0].map(|d| d * d).into();
        let gain = |d: f64| {
            if d > 0.0 {
                if of_samples { d * (3.0 - d) } else { d * (3.0 - 2.0 * d.ln()) }
            } else {
                0.0
            }
        };
        let truths = |base: f64| [0.0, 1.0, 2.0, 3.0].map(|d| base + gain(d)).to_vec();
        let unit = |base: f64| Unit {
            kl: kl.clone(),
            proxy: vec![0.0, 2.0, 4.0, 6.0],
            truth: truths(base),
        };
        Line {
            name: "ppo".to_owned(),
            names: ["1", "2", "3", "4"].map(str::to_owned).into(),
            of_samples,
            units: vec![unit(1.0), unit(2.0)],
            replicates: Vec::new(),
        }
    }

    #[test]
    fn the_peak_is_the_first_of_the_highest_and_what_follows_is_lost() {
        let line = line(true);
        // Gains of 0, 2, 2, 0.
        assert_eq!((line.peak(), line.root_kl(1)), (1, 1.0));
        assert!((line.lost().value - 2.0).abs() < 1e-12);
        assert!((line.proxy_after_peak() - 4.0).abs() < 1e-12);
    }

    #[test]
    fn the_law_that_made_a_line_is_found() {
        for (of_samples, known) in [(true, [3.0, 1.0]), (false, [3.0, 2.0])] {
            let found = line(of_samples).law().unwrap();
            for (found, known) in found.into_iter().zip(known) {
                assert!((found - known).abs() < 1e-9, "{found}");
            }
        }
    }

    #[test]
    fn replicates_stand_for_prompts() {
        let mut it = line(true);
        let shorter = Unit { truth: vec![0.0, 1.0, 0.5, 0.5], ..it.mean() };
        it.replicates = vec![it.mean(), shorter];
        assert!((it.lost().value - f64::midpoint(2.0, 0.5)).abs() < 1e-12);
    }

    #[test]
    fn the_report_says_where_the_true_reward_turned_back() {
        let lines = [line(true), Line { name: "grpo".to_owned(), ..line(false) }];
        insta::assert_snapshot!(markdown(&Told {
            title: "Over-optimisation",
            lines: &lines,
            replicates: None
        }));
    }

    #[test]
    fn gains_are_shares_of_the_largest() {
        let lines = [line(true)];
        let drawn = figure(&Told { title: "", lines: &lines, replicates: None });
        let ys = |at: usize| drawn.series[at].points.iter().map(|it| it.y).collect::<Vec<_>>();
        assert_eq!(ys(1), [0.0, 1.0, 1.0, 0.0]);
        assert!((ys(0)[1] - 1.0 / 3.0).abs() < 1e-12);
    }
}

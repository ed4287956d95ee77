//! `rounds` on an include: its stages once per round, where `previous/dpo` is the `dpo` of the round before.
//!
//! A round is a point on an axis `round`, from 1, behind those of the include's matrix. So the rounds are stages like any
//! others, and all of them are checked before the first runs.

use super::{axes::Axis, matrix::Point};
use crate::spec::{
    Arm, At, Data, Mistakes, Module, Node, PREVIOUS, Pipeline, Problem, Reference, Scope,
    interpolate, nearest,
};

const AXIS: &str = "round";
const MOST: u64 = 1_000;

/// The values of all `points`, each once per round of `module`.
pub(super) fn unrolled(
    points: Vec<Point>,
    module: &Module,
    scope: &Scope<'_>,
    pipeline: &Pipeline,
    mistakes: &mut Mistakes,
) -> Vec<Vec<(String, Node)>> {
    let points = points.into_iter().map(|point| point.values);
    let Some(written) = &module.rounds else { return points.collect() };
    let Some(filled) = interpolate(written, scope, &pipeline.sources, mistakes) else {
        return Vec::new();
    };
    let number = if let Data::Number(number) = &filled.data { number.as_u64() } else { None };
    let Some(count) = number.filter(|count| (1..=MOST).contains(count)) else {
        let problem = Problem::WrongType {
            what: "`rounds`".to_owned(),
            expected: format!("a whole number from 1 to {MOST}"),
            found: filled.described(),
        };
        mistakes.add(&pipeline.sources, written.at, problem);
        return Vec::new();
    };
    let round = |number: u64| {
        let data = Data::Number(number.into());
        (AXIS.to_owned(), Node { data, at: written.at })
    };
    let mut all = Vec::new();
    for point in points {
        if point.iter().any(|(axis, _)| axis == AXIS) {
            let words = format!(
                "the rounds are an axis `{AXIS}` of their own: call this one something else"
            );
            mistakes.add(&pipeline.sources, module.at, Problem::Rounds(words));
            return Vec::new();
        }
        all.extend(
            (1..=count)
                .map(|number| point.iter().cloned().chain([round(number)]).collect::<Vec<_>>()),
        );
    }
    all
}

/// What `previous/…` means for one stage.
pub(super) enum Before<'a> {
    /// The same, where the stage stands one round before.
    Round(Vec<Axis>),
    /// What the include says for the first round.
    First(&'a Node),
    /// Nothing is said for it.
    Nowhere,
}

/// What stands behind `previous/` in `text`, if the file that `at` is in goes round.
pub(super) fn behind<'t>(text: &'t str, at: At, pipeline: &Pipeline) -> Option<&'t str> {
    let wanted = text.strip_prefix(PREVIOUS)?.strip_prefix('/')?;
    let module = pipeline.modules.get(pipeline.sources.get(at).module)?;
    module.rounds.is_some().then_some(wanted)
}

/// What `wanted` of the round before is, for a stage that stands at `arms`, which are `axes` in words.
pub(super) fn before<'a>(
    wanted: &str,
    at: At,
    (arms, axes): (&[Arm], &[Axis]),
    pipeline: &'a Pipeline,
) -> Before<'a> {
    let index = pipeline.sources.get(at).module;
    let module = &pipeline.modules[index];
    let arm = arms.iter().find(|arm| arm.module == index);
    let round = arm.and_then(|arm| arm.values.iter().find(|(name, _)| name == AXIS));
    let round = round.and_then(|(_, node)| node.to_value().as_u64()).unwrap_or(1);
    if round > 1 {
        let mut axes = axes.to_vec();
        for axis in &mut axes {
            if axis.name == AXIS && axis.include.as_ref() == Some(&module.prefix) {
                axis.value = (round - 1).to_string();
            }
        }
        return Before::Round(axes);
    }
    let entry = module.first.iter().find(|entry| entry.key == wanted);
    entry.map_or(Before::Nowhere, |entry| Before::First(&entry.value))
}

/// Refuses what `first` says of stages that there are none of.
pub(super) fn check(pipeline: &Pipeline, mistakes: &mut Mistakes) {
    for module in &pipeline.modules {
        for entry in &module.first {
            let stage = Reference::parse(&entry.key).map_or("", |it| it.stage);
            let names = pipeline.names.iter().filter_map(|it| it.strip_prefix(&module.prefix));
            if !names.clone().any(|name| name == stage) {
                let problem = Problem::UnknownKey {
                    place: "`first`".to_owned(),
                    key: entry.key.clone(),
                    nearest: nearest(stage, names.clone()),
                    known: names.collect::<Vec<_>>().join(", "),
                };
                mistakes.add(&pipeline.sources, entry.at, problem);
            }
        }
    }
}

/// That the first round has nothing for `previous/wanted`.
pub(super) fn nothing_first(wanted: &str) -> Problem {
    Problem::Rounds(format!(
        "in the first round there is no `{PREVIOUS}/{wanted}`: say what stands for it, `first: {{ {wanted}: … }}`, where \
         this file is included"
    ))
}

/// That the file does not go round.
pub(super) fn no_rounds(text: &str) -> Problem {
    Problem::Rounds(format!(
        "`{text}` is of the round before, and this file does not go round: include it with `rounds: N`"
    ))
}

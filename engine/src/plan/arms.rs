//! The points at which the stages of a file stand: a matrix on an include has all of them once per point, and
//! `rounds` once per round.

use std::sync::Arc;

use super::{matrix::Matrix, rounds};
use crate::spec::{Arm, Mistakes, Pipeline, Problem, Scope, interpolate};

/// Points of all includes on the way to a file.
const MOST: usize = 10_000;

/// A point of every include on the way from the pipeline's own file, outermost first; only of those with a matrix or rounds.
pub(super) type Arms = Arc<[Arm]>;

/// For every file, where its stages stand.
pub(super) fn arms(pipeline: &Pipeline, mistakes: &mut Mistakes) -> Vec<Vec<Arms>> {
    let mut all: Vec<Vec<Arms>> = Vec::new();
    for (index, module) in pipeline.modules.iter().enumerate() {
        // Files stand behind those that include them.
        let parent = pipeline.sources.get(module.at).module;
        let around =
            all.get(parent).filter(|_| index > 0).cloned().unwrap_or_else(|| vec![[].into()]);
        let own = if module.matrix.is_empty() && module.rounds.is_none() {
            around
        } else {
            let mut multiplier = Multiplier { pipeline, mistakes, index, parent };
            multiplier.multiplied(&around)
        };
        // Used or not, what a file is given must be something.
        if let Some(first) = own.first() {
            let scope = Scope {
                modules: &pipeline.modules,
                seed: Some(0),
                arms: first,
                ..Scope::default()
            };
            for entry in &module.given {
                interpolate(&entry.value, &scope, &pipeline.sources, mistakes);
            }
        }
        all.push(own);
    }
    all
}

struct Multiplier<'a> {
    pipeline: &'a Pipeline,
    mistakes: &'a mut Mistakes,
    index: usize,
    parent: usize,
}

impl Multiplier<'_> {
    fn multiplied(&mut self, around: &[Arms]) -> Vec<Arms> {
        let module = &self.pipeline.modules[self.index];
        let name = module.prefix.trim_end_matches('/');
        let mut arms: Vec<Arms> = Vec::new();
        for above in around {
            let scope = Scope {
                modules: &self.pipeline.modules,
                budget: Some(&self.pipeline.budget),
                arms: above,
                ..Scope::default()
            };
            let matrix = Matrix { of: name, axes: &module.matrix, at: module.at };
            let points = matrix.points(&scope, self.pipeline, self.mistakes);
            for values in rounds::unrolled(points, module, &scope, self.pipeline, self.mistakes) {
                if !self.is_new(&values, above) {
                    return arms;
                }
                if arms.len() == MOST {
                    let problem = Problem::TooManyVariants { most: MOST };
                    self.mistakes.add(&self.pipeline.sources, module.at, problem);
                    return arms;
                }
                let arm = Arm { module: self.index, parent: self.parent, values };
                arms.push(above.iter().cloned().chain([arm]).collect());
            }
        }
        arms
    }

    /// Refuses an axis that an include around this one has already.
    fn is_new(&mut self, values: &[(String, crate::spec::Node)], above: &[Arm]) -> bool {
        let module = &self.pipeline.modules[self.index];
        let axis = taken(values, above);
        if let Some(axis) = axis {
            let problem = Problem::Matrix(taken_in_words(axis));
            self.mistakes.add(&self.pipeline.sources, module.at, problem);
        }
        axis.is_none()
    }
}

/// The first axis of `values` that is one of `above` already.
pub(super) fn taken<'a>(
    values: &'a [(String, crate::spec::Node)],
    above: &[Arm],
) -> Option<&'a str> {
    let is_taken = |name: &str| above.iter().any(|arm| arm.values.iter().any(|(it, _)| it == name));
    values.iter().map(|(name, _)| name.as_str()).find(|name| is_taken(name))
}

pub(super) fn taken_in_words(axis: &str) -> String {
    format!(
        "an include that this came by has an axis `{axis}` too, and no name could tell the two apart: call one \
         something else"
    )
}

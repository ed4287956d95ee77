//! What a stage's random choices derive from: its own `seed`, else that of the file it stands in as far as
//! one is said where it is included, else the pipeline's, else 0.

use super::instance::Instance;
use crate::spec::{Data, Mistakes, Node, Pipeline, Problem, Scope, interpolate};

/// The parameter of every kind that draws.
pub(super) const SEED: &str = "seed";

/// Beyond it, not every reader of JSON tells two numbers apart.
const LARGEST: u64 = 1 << 53;

/// The seed of `instance`. Where the stage says its own, `${seed}` is that of what it stands in.
pub(super) fn of(instance: &Instance<'_>, pipeline: &Pipeline, mistakes: &mut Mistakes) -> u64 {
    let scope = Scope { seed: None, ..instance.scope(pipeline) };
    let around = pipeline.seed_below(&instance.spec.prefix);
    let around = around.map_or(0, |node| number(node, &scope, pipeline, mistakes));
    let own = instance.spec.with.get(SEED).filter(|_| instance.kind.uses_seed);
    let scope = Scope { seed: Some(around), ..scope };
    own.map_or(around, |node| number(node, &scope, pipeline, mistakes))
}

/// What `node` stands for; 0 where that is a mistake.
fn number(node: &Node, scope: &Scope<'_>, pipeline: &Pipeline, mistakes: &mut Mistakes) -> u64 {
    let Some(node) = interpolate(node, scope, &pipeline.sources, mistakes) else { return 0 };
    if let Data::Number(number) = &node.data
        && let Some(seed) = number.as_u64().filter(|seed| *seed <= LARGEST)
    {
        return seed;
    }
    let problem = Problem::WrongType {
        what: "`seed`".to_owned(),
        expected: format!("a whole number from 0 to {LARGEST}"),
        found: node.described(),
    };
    mistakes.add(&pipeline.sources, node.at, problem);
    0
}

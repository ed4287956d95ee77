//! What a stage's random choices derive from: its own `seed`, else that of the file it stands in as far as
//! one is said where it is included, else the pipeline's, else 0.

use super::instances::Instance;
use crate::spec::{Data, Mistakes, Node, Pipeline, Problem, interpolate};

/// The parameter of every kind that draws.
pub(super) const SEED: &str = "seed";

/// Beyond it, not every reader of JSON tells two numbers apart.
const LARGEST: u64 = 1 << 53;

/// The seed of `instance`, whose scope has none yet.
pub(super) fn of(instance: &Instance<'_>, pipeline: &Pipeline, mistakes: &mut Mistakes) -> u64 {
    let own = instance.spec.with.get(SEED).filter(|_| instance.kind.uses_seed);
    let Some(node) = own.or_else(|| pipeline.seed_below(&instance.spec.prefix)) else { return 0 };
    let scope = instance.scope(pipeline);
    let Some(node) = interpolate(node, &scope, &pipeline.sources, mistakes) else { return 0 };
    let number = |node: &Node| match &node.data {
        Data::Number(number) => number.as_u64().filter(|number| *number <= LARGEST),
        _ => None,
    };
    number(&node).unwrap_or_else(|| {
        let problem = Problem::WrongType {
            what: "`seed`".to_owned(),
            expected: format!("a whole number from 0 to {LARGEST}"),
            found: node.described(),
        };
        mistakes.add(&pipeline.sources, node.at, problem);
        0
    })
}

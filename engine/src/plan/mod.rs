//! The same pipeline, checked: edges joined, types agreed, parameters complete.
//!
//! [`plan`] turns a [`Pipeline`] into a [`Plan`] or says everything that is wrong.
//! What stands in a [`Plan`] needs no second check.

mod arms;
mod axes;
mod checked;
#[cfg(test)]
mod composed;
mod conduct;
mod emptiness;
mod exec;
mod facts;
mod files;
mod fingerprint;
mod graph;
mod instance;
mod instances;
mod line;
mod matrix;
mod params;
mod rehearsal;
mod resources;
mod rounds;
mod rules;
mod said;
mod schema;
mod secrets;
mod seed;
mod snapshot;
mod stage;
mod tools;
mod typing;
mod values;
mod when;
mod wiring;

use gradus_protocol::catalog::Catalog;

pub(crate) use axes::points;
pub use axes::{Axis, names};
pub use checked::Plan;
pub use conduct::Conduct;
pub(crate) use exec::variable;
pub use exec::{Command, Exec, documented as exec_kind};
pub use facts::{Facts, Group, Origin, Origins, Pair, Row, short, side_by_side};
pub use fingerprint::{Known, Table, seed_of};
pub use graph::{Drawing, draw};
pub(crate) use line::shorter;
pub use resources::Resources;
pub use said::Besides;
pub use schema::schema;
pub use snapshot::Snapshot;
pub(crate) use stage::readers;
pub use stage::{From, Stage, Wire};
pub use when::LeftOut;
pub(crate) use wiring::label;

use crate::spec::{Mistakes, Pipeline, Problem};

/// Checks a sound plan once more with what is known of it besides, and with what is wrong with the files that stages read.
pub fn told(
    plan: &Plan,
    pipeline: &Pipeline,
    looked: &[(usize, String)],
    besides: &Besides,
) -> Mistakes {
    let mut mistakes = Mistakes::default();
    for (index, words) in looked {
        let stage = &plan.stages[*index];
        let problem = Problem::Looked { stage: stage.id.clone(), words: words.clone() };
        mistakes.add(&pipeline.sources, stage.at, problem);
    }
    let said = said::said(&plan.stages, besides);
    rules::check(&plan.stages, &said, pipeline, &mut mistakes);
    mistakes
}

/// Checks `pipeline` against `catalog`; `mistakes` are those that reading it brought.
pub fn plan(
    pipeline: &Pipeline,
    catalog: &Catalog,
    mut mistakes: Mistakes,
) -> Result<Plan, Mistakes> {
    let (instances, left_out) = instances::instances(pipeline, catalog, &mut mistakes);
    let mut stages: Vec<Stage> = instances
        .iter()
        .map(|instance| params::complete(instance, pipeline, &mut mistakes))
        .collect();
    wiring::join(&mut stages, &instances, &left_out, pipeline, &mut mistakes);
    let said = said::said(&stages, &Besides::new());
    rules::check(&stages, &said, pipeline, &mut mistakes);
    emptiness::check(&stages, &said, pipeline, &mut mistakes);
    let stages = graph::order(stages, pipeline, &mut mistakes);
    let stages = typing::agree(stages, catalog, pipeline, &mut mistakes);
    let snapshots = snapshot::resolve(&stages, &left_out, pipeline, &mut mistakes);
    let included = pipeline.modules.iter().filter_map(|module| module.file.clone()).collect();
    let file = pipeline.file.clone();
    let warnings = std::mem::take(&mut mistakes.warnings);
    mistakes.or(Plan {
        name: pipeline.name.clone(),
        file,
        stages,
        left_out,
        included,
        asked: pipeline.asked.clone(),
        warnings,
        snapshots,
    })
}

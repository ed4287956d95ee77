//! One stage's fingerprint, row by row, beside what it was the last time.

use gradus_cache::{CacheError, Fingerprint};

use super::preview::State;
use crate::{
    plan::{Command, Exec, Facts, Pair, Plan, side_by_side},
    run::{
        execution::resolve::{self, Actions},
        made::Made,
        process::program::on_path,
        session::Session,
    },
};

/// All that is known about a stage before a run.
#[derive(Debug)]
pub struct Explanation {
    pub state: State,
    /// `None` while a stage before it has to run.
    pub fingerprint: Option<Fingerprint>,
    /// Stages before it without a result.
    pub waits_for: Vec<String>,
    /// What it was when it last ran or was found in the cache.
    pub last: Option<Fingerprint>,
    pub rows: Vec<Pair>,
    /// What its program can see and no row has, in words.
    pub not_in_key: Vec<String>,
    /// How its result was made, for a stage that is cached.
    pub made: Option<Made>,
}

impl Session {
    /// Explains the stage at `index`; `selected` are that stage and all that it needs.
    pub fn explain(
        &self,
        plan: &Plan,
        index: usize,
        selected: &[usize],
    ) -> Result<Explanation, CacheError> {
        let stage = &plan.stages[index];
        let mut actions = Actions::new();
        let mut outlook = State::Unknown;
        for preview in self.preview_here(plan, selected)? {
            if preview.stage == index {
                outlook = preview.state;
            }
            actions.extend(preview.action.map(|action| (preview.stage, action)));
        }
        let mut waits_for: Vec<String> = stage
            .sources()
            .filter(|source| !actions.contains_key(source))
            .map(|source| plan.stages[source].id.clone())
            .collect();
        waits_for.dedup();
        let gathered = resolve::gather(self, plan, stage, &actions)?;
        let fingerprint = gathered.as_ref().map(|it| it.fingerprint);
        let now = gathered.map(|it| it.facts.rows()).unwrap_or_default();
        let last = resolve::last(&self.cache, plan, stage);
        let before = last.as_ref().map(Facts::rows).unwrap_or_default();
        Ok(Explanation {
            state: outlook,
            fingerprint: fingerprint.filter(|_| waits_for.is_empty()),
            waits_for,
            last: last.map(|last| last.table.fingerprint()),
            rows: side_by_side(&before, &now),
            not_in_key: stage.exec.as_ref().map(not_in_key).unwrap_or_default(),
            made: actions.get(&index).and_then(|action| Made::of(action)),
        })
    }
}

fn not_in_key(exec: &Exec) -> Vec<String> {
    let program = match &exec.command {
        Command::Arguments(words) => words.first(),
        // Its words are not known one by one.
        Command::Shell(_) => None,
    };
    let by_name = program.filter(|it| !it.contains('/') && !exec.tools.contains(it));
    let found = by_name.map(|program| match on_path(program) {
        Some(path) => format!(
            "`{program}`, which `PATH` finds at {}: `tools: [{program}]` puts its bytes into the key",
            path.display()
        ),
        None => format!("`{program}`, which `PATH` does not find"),
    });
    let others = "what else `PATH` finds, `HOME`, `TMPDIR`; `LANG` is C.UTF-8 unless `env` says it";
    found.into_iter().chain([others.to_owned()]).collect()
}

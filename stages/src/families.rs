//! Every stage kind of this worker, family by family.
//!
//! To add a kind: its file, its `mod` line in the family, its entry in the family's `STAGES`.

use crate::{
    data, evaluate, feedback, model, policy, reward, rollout, stage::AnyStage, tabular, train,
};

/// All kinds, in no particular order.
pub(crate) fn stages() -> impl Iterator<Item = AnyStage> {
    let families = [
        data::STAGES,
        model::STAGES,
        train::STAGES,
        feedback::STAGES,
        rollout::STAGES,
        reward::STAGES,
        policy::STAGES,
        tabular::STAGES,
        evaluate::STAGES,
    ];
    families.into_iter().flatten().copied()
}

/// The kind of that name.
pub(crate) fn find(kind: &str) -> Option<AnyStage> {
    stages().find(|stage| stage.name == kind)
}

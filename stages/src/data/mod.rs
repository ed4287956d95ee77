//! Where rows come from: the user's files, a split of them, or a world made up on purpose.

pub(crate) mod annotate;
pub(crate) mod by_pass_rate;
pub(crate) mod columns;
pub(crate) mod filter;
pub(crate) mod groups;
pub(crate) mod implicit;
pub(crate) mod load;
pub(crate) mod loaded;
pub(crate) mod mistakes;
pub(crate) mod read;
pub(crate) mod score;
pub(crate) mod split;
pub(crate) mod synthetic;
pub(crate) mod tokenize;
pub(crate) mod tokenizer;
pub(crate) mod verdict;

use crate::stage::AnyStage;

pub(crate) const STAGES: &[AnyStage] = &[
    AnyStage::of::<annotate::Annotate>(),
    AnyStage::of::<by_pass_rate::ByPassRate>(),
    AnyStage::of::<filter::Filter>(),
    AnyStage::of::<load::Load>(),
    AnyStage::of::<score::Score>(),
    AnyStage::of::<split::Split>(),
    AnyStage::of::<synthetic::Synthetic>(),
    AnyStage::of::<tokenize::Tokenize>(),
    AnyStage::of::<tokenizer::TrainTokenizer>(),
];

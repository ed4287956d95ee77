//! What a kind of learning on-line says of itself: its parts by name, its sizes, and who takes part.

use std::cell::RefCell;

use super::{
    credit::Credit, critic::ValueLoss, modulation::Modulation, resets::Resets, shaping::Shaping,
    surrogate::PolicyLoss,
};
use crate::{
    environment::settings::Opened,
    nn::pretrained::Pretrained,
    reward::{expression::Expression, judges::Judges, sources::Rewards},
    rollout::{filtering::Choice, sampler::Ready},
};

/// How large an iteration is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Prompts of an iteration, and completions of each.
    pub(super) prompts: usize,
    pub(super) samples: usize,
    /// Of a reply, and how many of them there are at most.
    pub(super) max_new_tokens: usize,
    pub(super) turns: usize,
    /// Of the policy, when it samples and when it learns.
    pub(super) temperature: f64,
    /// How often each completion is learnt from before others are sampled.
    pub(super) epochs: usize,
    /// Completions of one step of the optimiser.
    pub(super) minibatch: usize,
    /// Completions that are in memory at once.
    pub(super) micro_batch: usize,
}

impl Sizes {
    /// How many completions of an iteration are learnt from, at most.
    pub(super) fn kept(&self, filter: Option<Choice>) -> usize {
        self.prompts * filter.map_or(self.samples, |it| it.most(self.samples))
    }

    /// Steps of the optimiser in one iteration, at most.
    pub(super) fn steps(&self, filter: Option<Choice>) -> usize {
        self.epochs * self.kept(filter).div_ceil(self.minibatch)
    }
}

/// Which completions are kept to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// Of the first iteration and every so many-th after it; 0 stands for none.
    pub(super) every: usize,
    /// The first so many.
    pub(super) count: usize,
}

impl Reading {
    pub(super) fn of(self, iteration: usize) -> usize {
        if self.every > 0 && iteration.is_multiple_of(self.every) { self.count } else { 0 }
    }
}

/// Who the rival is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rival {
    /// Token by token the geometric mixture of the policy and its reference, `∝ π^(1−β) μ^β` with this β (Munos et al. 2023, eq. 15).
    Mixture(f64),
    /// The policy with averaged weights.
    Average,
}

/// What makes a method.
pub(super) struct Method {
    pub(super) shaping: Shaping,
    pub(super) credit: Credit,
    /// Whom it plays, if anybody.
    pub(super) rival: Option<Rival>,
    /// Whether every second completion is the reference's.
    pub(super) reference_answers: bool,
    /// Which completions are learnt from, if not all.
    pub(super) filter: Option<Choice>,
    /// What entropies make of advantages.
    pub(super) modulation: Option<Modulation>,
    /// Whether advantages are whitened over those that are learnt from.
    pub(super) whiten: bool,
    /// Advantages stay within plus and minus this.
    pub(super) advantage_clip: Option<f64>,
    pub(super) loss: Box<dyn PolicyLoss>,
    /// What a nat of entropy is worth, at every token.
    pub(super) entropy_weight: f64,
    /// Of the critic, where there is one.
    pub(super) value: Option<ValueLoss>,
    /// Iterations at the beginning in which the critic alone learns.
    pub(super) critic_first: usize,
    /// The steps of an iteration end once the policy has moved so far, in nats a token.
    pub(super) most_step_kl: Option<f64>,
    /// How much of the averaged policy stays at every step, where there is one.
    pub(super) average: Option<f64>,
}

/// Who takes part, and how: what does not change while it learns, but for weights.
pub(super) struct Setting<'a> {
    pub(super) policy: &'a Pretrained,
    pub(super) reference: Option<&'a Pretrained>,
    pub(super) critic: Option<&'a Pretrained>,
    pub(super) prompts: &'a Ready,
    /// What it is measured on.
    pub(super) test: Option<&'a Ready>,
    /// Where completions begin, if not all at their prompts.
    pub(super) resets: Option<&'a Resets>,
    /// Whom it talks to, if to anybody.
    pub(super) world: Option<RefCell<Opened>>,
    pub(super) rewards: &'a Rewards,
    pub(super) expression: &'a Expression,
    pub(super) judges: &'a Judges,
    pub(super) method: Method,
    pub(super) sizes: Sizes,
    pub(super) reading: Reading,
}

impl Setting<'_> {
    /// Says whether the policy itself says the completion of this number.
    pub(super) fn is_own(&self, at: usize) -> bool {
        !self.method.reference_answers || at.is_multiple_of(2)
    }

    /// How many completions of an iteration are learnt from, at most.
    pub(super) fn most(&self) -> usize {
        self.sizes.kept(self.method.filter)
    }
}

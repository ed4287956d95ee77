//! From the rewards of tokens to their advantages: how much better each was than expected.
//!
//! A group of completions is its own expectation (`policy/advantages.rs`), or a critic says what is to be expected.

use super::{
    advantages::{Term, advantages},
    conditional::{Conditional, Metric},
};

/// Keeps a deviation of zero from dividing, as TRL has it.
const LEAST: f64 = 1e-8;

/// Who says what was to be expected.
#[derive(Debug, Clone)]
pub(super) enum Credit {
    /// Others: all tokens of a completion have the advantage that these terms make of its rewards' sum.
    Rows(Vec<Term>),
    /// Others that are unlike it in a metric.
    Conditional(Conditional),
    /// A critic, by generalised advantage estimation.
    Critic { gamma: f64, lambda: f64 },
    /// Nobody: the rewards from the token on less a baseline, as REINFORCE has it.
    ToGo { gamma: f64, baseline: f64 },
}

/// What tokens are worth, a row for each completion.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Credited {
    pub(super) advantages: Vec<Vec<f64>>,
    /// What a critic should have said.
    pub(super) returns: Vec<Vec<f64>>,
}

/// What credit is given by, beside rewards.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Basis<'a> {
    /// Of tokens, where there is a critic.
    pub(super) values: Option<&'a [Vec<f64>]>,
    /// Positions of rows that belong together.
    pub(super) groups: &'a [Vec<usize>],
    /// Of rows, where rows are compared by a metric.
    pub(super) metric: &'a [f64],
    /// From 0.
    pub(super) iteration: usize,
}

impl Credit {
    /// What rows must be measured by.
    pub(super) fn metric(&self) -> Option<&Metric> {
        match self {
            Self::Conditional(it) => Some(&it.metric),
            _ => None,
        }
    }

    /// `rewards` are of tokens.
    pub(super) fn of(&self, rewards: &[Vec<f64>], basis: &Basis<'_>) -> Credited {
        let by_row = |of: &dyn Fn(&[f64]) -> Vec<f64>| {
            let sums: Vec<f64> = rewards.iter().map(|own| own.iter().sum()).collect();
            let each = of(&sums).into_iter().zip(rewards);
            let advantages = each.map(|(one, own)| vec![one; own.len()]).collect();
            Credited { advantages, returns: Vec::new() }
        };
        match self {
            Self::Rows(terms) => by_row(&|sums| advantages(terms, sums, basis.groups)),
            Self::Conditional(it) => {
                by_row(&|sums| it.advantages(sums, basis.metric, basis.groups, basis.iteration))
            }
            Self::ToGo { gamma, baseline } => {
                let none = |own: &Vec<f64>| {
                    let to_go = gae(own, &vec![0.0; own.len()], *gamma, 1.0);
                    to_go.into_iter().map(|it| it - baseline).collect()
                };
                Credited { advantages: rewards.iter().map(none).collect(), returns: Vec::new() }
            }
            Self::Critic { gamma, lambda } => {
                let mut credited = Credited::default();
                for (own, values) in rewards.iter().zip(basis.values.unwrap_or_default()) {
                    let advantages = gae(own, values, *gamma, *lambda);
                    let returns = advantages.iter().zip(values).map(|(a, v)| a + v);
                    credited.returns.push(returns.collect());
                    credited.advantages.push(advantages);
                }
                credited
            }
        }
    }
}

/// `A_t = δ_t + γλ A_{t+1}` with `δ_t = r_t + γ V_{t+1} − V_t`, and nothing after the last (Schulman et al. 2016, eq. 16).
pub(crate) fn gae(rewards: &[f64], values: &[f64], gamma: f64, lambda: f64) -> Vec<f64> {
    let mut advantages = vec![0.0; rewards.len()];
    let (mut later, mut next) = (0.0, 0.0);
    for at in (0..rewards.len()).rev() {
        later = rewards[at] + gamma * next - values[at] + gamma * lambda * later;
        advantages[at] = later;
        next = values[at];
    }
    advantages
}

/// Takes the mean over all tokens of `rows` off, and divides by their deviation. A row that stands there twice counts twice.
pub(crate) fn whiten(values: &mut [Vec<f64>], rows: &[usize]) {
    let all: Vec<f64> = rows.iter().flat_map(|row| values[*row].iter().copied()).collect();
    let count = all.len() as f64;
    let mean = all.iter().sum::<f64>() / count.max(1.0);
    let squares: f64 = all.iter().map(|it| (it - mean).powi(2)).sum();
    let by = (squares / (count - 1.0).max(1.0) + LEAST).sqrt();
    values.iter_mut().flatten().for_each(|it| *it = (*it - mean) / by);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f64], by_hand: &[f64]) {
        assert_eq!(found.len(), by_hand.len());
        assert!(found.iter().zip(by_hand).all(|(a, b)| (a - b).abs() < 1e-7), "{found:?}");
    }

    #[test]
    fn gae_is_the_discounted_sum_of_surprises() {
        let (rewards, values) = ([0.5, -1.0, 2.0, 0.25], [1.0, 0.5, -0.5, 2.0]);
        let (gamma, lambda) = (0.9_f64, 0.8_f64);
        let next = |t: usize| values.get(t + 1).copied().unwrap_or(0.0);
        let surprise = |t: usize| rewards[t] + gamma * next(t) - values[t];
        // Σ_k (γλ)^k δ_{t+k}
        let by_hand: Vec<f64> = (0..4_usize)
            .map(|t| (t..4).zip(0..).map(|(k, i)| (gamma * lambda).powi(i) * surprise(k)).sum())
            .collect();
        close(&gae(&rewards, &values, gamma, lambda), &by_hand);
        // Without discounts it is the rewards that are left less the value.
        close(&gae(&rewards, &values, 1.0, 1.0), &[0.75, 0.75, 2.75, -1.75]);
    }

    #[test]
    fn rewards_to_go_and_groups_need_no_critic() {
        let rewards = [vec![-0.5, 2.0], vec![1.0]];
        let to_go = Credit::ToGo { gamma: 0.5, baseline: 0.25 }.of(&rewards, &Basis::default());
        close(&to_go.advantages.concat(), &[0.25, 1.75, 0.75]);
        let together = [vec![0, 1]];
        let basis = Basis { groups: &together, ..Basis::default() };
        let groups = Credit::Rows(vec![Term::GroupMean]).of(&rewards, &basis);
        // Sums 3/2 and 1.
        close(&groups.advantages.concat(), &[0.25, 0.25, -0.25]);
        let critic = Credit::Critic { gamma: 1.0, lambda: 1.0 };
        let values = [vec![1.0, 1.0], vec![0.0]];
        let found = critic.of(&rewards, &Basis { values: Some(&values), ..Basis::default() });
        close(&found.advantages.concat(), &[0.5, 1.0, 1.0]);
        close(&found.returns.concat(), &[1.5, 2.0, 1.0]);
    }

    #[test]
    fn what_is_learnt_from_is_what_is_whitened_over() {
        let mut values = vec![vec![1.0, 2.0], vec![100.0], vec![6.0]];
        whiten(&mut values, &[0, 2]);
        // 1, 2, 6: mean 3, deviation √7.
        let by = 7_f64.sqrt();
        close(&values.concat(), &[-2.0 / by, -1.0 / by, 97.0 / by, 3.0 / by]);
    }
}

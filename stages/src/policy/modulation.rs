//! What the entropy of its tokens makes of advantages: how unsure the policy was when it chose them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use crate::nn::statistics::{mean, quantile};

/// Keeps a spread of zero from dividing, as the paper has it.
const LEAST: f64 = 1e-8;

/// How advantages are changed. Entropies are of the policy that sampled, in nats.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Modulation {
    /// Only the tokens at which the policy was the least sure are learnt from: this share of all (Wang et al. 2025, "Beyond the
    /// 80/20 Rule", section 5).
    MostEntropic { share: f64 },
    /// Each step's is scaled by how sure the policy was of it.
    Steps(Steps),
}

/// How steps are scaled (Wang et al. 2025, "Entropy-Modulated Policy Gradients", eq. 7 to 12).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    /// k
    pub(super) sharpness: f64,
    /// k'
    pub(super) future_sharpness: f64,
    /// ζ
    pub(super) future_weight: f64,
    /// Tokens of a step; without it a step is a reply.
    pub(super) tokens: Option<usize>,
}

impl Modulation {
    /// Changes the advantages of the `kept` rows, of all of which together it is. `turns` are the ends of every row's replies.
    pub(crate) fn apply(
        self,
        advantages: &mut [Vec<f64>],
        entropies: &[Vec<f64>],
        turns: &[Vec<usize>],
        kept: &[usize],
    ) {
        match self {
            Self::Steps(steps) => steps.apply(advantages, entropies, turns, kept),
            Self::MostEntropic { share } => {
                let all = kept.iter().flat_map(|at| entropies[*at].iter().copied());
                let bound = quantile(all.collect(), 1.0 - share);
                for at in kept {
                    for (advantage, entropy) in advantages[*at].iter_mut().zip(&entropies[*at]) {
                        if *entropy < bound {
                            *advantage = 0.0;
                        }
                    }
                }
            }
        }
    }
}

impl Steps {
    /// Where the steps of a row stand, which has so many tokens.
    fn of(&self, tokens: usize, turns: &[usize]) -> Vec<Range<usize>> {
        if let Some(step) = self.tokens {
            return (0..tokens).step_by(step).map(|at| at..(at + step).min(tokens)).collect();
        }
        let starts = std::iter::once(0).chain(turns.iter().copied());
        starts.zip(turns).map(|(from, to)| from..*to).filter(|it| !it.is_empty()).collect()
    }

    fn apply(
        &self,
        advantages: &mut [Vec<f64>],
        entropies: &[Vec<f64>],
        turns: &[Vec<usize>],
        kept: &[usize],
    ) {
        let step = |at: usize, own: &Range<usize>| mean(&entropies[at][own.clone()]);
        let steps: Vec<Vec<Range<usize>>> =
            entropies.iter().zip(turns).map(|(own, turns)| self.of(own.len(), turns)).collect();
        let entropies: Vec<Vec<f64>> = steps
            .iter()
            .enumerate()
            .map(|(at, steps)| steps.iter().map(|own| step(at, own)).collect())
            .collect();
        // Over all steps of all rows that are learnt from.
        let all: Vec<f64> = kept.iter().flat_map(|at| entropies[*at].iter().copied()).collect();
        let (least, most) = all
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), it| (a.min(*it), b.max(*it)));
        let relative = |entropy: f64| (entropy - least) / (most - least + LEAST);
        let scale = |entropy: f64| (-self.sharpness * relative(entropy)).exp();
        let usual = mean(&all.iter().map(|it| scale(*it)).collect::<Vec<_>>());
        let rows: BTreeSet<usize> = kept.iter().copied().collect();
        let mut changed: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for at in rows {
            let own = &entropies[at];
            let step = |(number, range): (usize, &Range<usize>)| {
                let future = own.get(number + 1).map_or(0.0, |next| {
                    self.future_weight * (-self.future_sharpness * relative(*next)).exp()
                });
                advantages[at][range.start] * scale(own[number]) / usual + future
            };
            changed.insert(at, steps[at].iter().enumerate().map(step).collect());
        }
        let centre = kept.iter().flat_map(|at| changed[at].iter().copied()).collect::<Vec<_>>();
        let centre = mean(&centre);
        for (at, values) in changed {
            for (range, value) in steps[at].iter().zip(values) {
                advantages[at][range.clone()].fill(value - centre);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_were_sure_teach_nothing() {
        let mut advantages = vec![vec![1.0, 1.0], vec![-1.0, -1.0], vec![5.0]];
        let entropies = [vec![0.1, 0.9], vec![0.8, 0.2], vec![0.0]];
        // The last row is not learnt from, so it does not count.
        Modulation::MostEntropic { share: 0.5 }.apply(&mut advantages, &entropies, &[], &[0, 1]);
        assert_eq!(advantages, [vec![0.0, 1.0], vec![-1.0, 0.0], vec![5.0]]);
        Modulation::MostEntropic { share: 1.0 }.apply(&mut advantages, &entropies, &[], &[0, 1, 2]);
        assert_eq!(advantages, [vec![0.0, 1.0], vec![-1.0, 0.0], vec![5.0]]);
    }
    fn steps(sharpness: f64, future_weight: f64, tokens: Option<usize>) -> Modulation {
        let future_sharpness = 1.0;
        Modulation::Steps(Steps { sharpness, future_sharpness, future_weight, tokens })
    }

    fn close(found: &[Vec<f64>], by_hand: &[&[f64]]) {
        for (found, by_hand) in found.iter().zip(by_hand) {
            assert_eq!(found.len(), by_hand.len());
            assert!(found.iter().zip(*by_hand).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        }
    }

    #[test]
    fn sure_steps_learn_more_and_pay_more_where_the_next_is_sure() {
        // Steps of two tokens with entropies 0 and 2 of the first row, 1 of the second.
        let entropies = [vec![0.0, 0.0, 1.0, 3.0], vec![1.0, 1.0]];
        let before = vec![vec![1.0; 4], vec![-1.0; 2]];
        let mut found = before.clone();
        steps(1.0, 0.5, Some(2)).apply(&mut found, &entropies, &[vec![4], vec![2]], &[0, 1]);
        let (sure, unsure, middle) = (1.0, (-1_f64).exp(), (-0.5_f64).exp());
        let usual = (sure + unsure + middle) / 3.0;
        let modulated = [sure / usual + 0.5 * unsure, unsure / usual, -middle / usual];
        let centre = modulated.iter().sum::<f64>() / 3.0;
        let [a, b, c] = modulated.map(|it| it - centre);
        close(&found, &[&[a, a, b, b], &[c, c]]);
        // Replies are the steps where no number is given: here one of three tokens and one of one.
        let mut found = before.clone();
        let turns = [vec![3, 4], vec![2]];
        steps(0.0, 0.0, None).apply(&mut found, &entropies, &turns, &[0, 1]);
        // Nothing but centred: over three steps 1, 1 and −1.
        close(&found, &[&[2.0 / 3.0; 4], &[-4.0 / 3.0; 2]]);
    }

    #[test]
    fn where_all_steps_are_as_sure_nothing_is_scaled() {
        let mut found = vec![vec![1.0, 1.0], vec![-1.0, -1.0]];
        let entropies = vec![vec![0.7, 0.7]; 2];
        steps(2.0, 0.0, Some(1)).apply(&mut found, &entropies, &[vec![2], vec![2]], &[0, 1]);
        close(&found, &[&[1.0, 1.0], &[-1.0, -1.0]]);
    }
}

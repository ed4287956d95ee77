//! What the entropy of its tokens makes of advantages: how unsure the policy was when it chose them.

use crate::nn::statistics::quantile;

/// How advantages are changed. Entropies are of the policy that sampled, in nats.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Modulation {
    /// Only the tokens at which the policy was the least sure are learnt from: this share of all (Wang et al. 2025, "Beyond the
    /// 80/20 Rule", section 5).
    MostEntropic { share: f64 },
}

impl Modulation {
    /// Changes the advantages of the `kept` rows, of all of which together it is.
    pub(crate) fn apply(self, advantages: &mut [Vec<f64>], entropies: &[Vec<f64>], kept: &[usize]) {
        match self {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_were_sure_teach_nothing() {
        let mut advantages = vec![vec![1.0, 1.0], vec![-1.0, -1.0], vec![5.0]];
        let entropies = [vec![0.1, 0.9], vec![0.8, 0.2], vec![0.0]];
        // The last row is not learnt from, so it does not count.
        Modulation::MostEntropic { share: 0.5 }.apply(&mut advantages, &entropies, &[0, 1]);
        assert_eq!(advantages, [vec![0.0, 1.0], vec![-1.0, 0.0], vec![5.0]]);
        Modulation::MostEntropic { share: 1.0 }.apply(&mut advantages, &entropies, &[0, 1, 2]);
        assert_eq!(advantages, [vec![0.0, 1.0], vec![-1.0, 0.0], vec![5.0]]);
    }
}

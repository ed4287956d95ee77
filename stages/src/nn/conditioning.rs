//! Likelihood that heeds what tokens are worth: unlikelihood (Welleck et al. 2020), and likelihood weighted by reward or advantage (RWR, Peters
//! & Schaal 2007; AWR, Peng et al. 2019), as Korbak et al. 2023 pretrain by them. Everything is per token, `[tokens]`.

use tch::{Kind, Tensor};

/// No probability of a token's absence is less.
const LEAST: f64 = 1e-20;

/// `−log p` of tokens worth at least `threshold`, and of the others `−α log(1 − p)`.
pub(crate) fn unlikelihood(
    log_probs: &Tensor,
    rewards: &Tensor,
    threshold: f64,
    alpha: f64,
) -> Tensor {
    let absent = (-log_probs.exp() + 1.0).clamp_min(LEAST).log();
    let wanted = rewards.ge(threshold).to_kind(Kind::Float);
    -(log_probs * &wanted) - absent * (1.0 - wanted) * alpha
}

/// `exp(R / β)`, at most so much: of rewards, or of advantages.
pub(crate) fn weights(rewards: &Tensor, beta: f64, most: f64) -> Tensor {
    (rewards / beta).exp().clamp_max(most)
}

/// `−α w log p + (1 − α) (R − V)²` with `w = exp((R − sg V) / β)` given: what weighs learns nothing by it.
pub(crate) fn advantage_weighted(
    log_probs: &Tensor,
    weights: &Tensor,
    rewards: &Tensor,
    values: &Tensor,
    alpha: f64,
) -> Tensor {
    -(log_probs * weights.detach()) * alpha + (rewards - values).square() * (1.0 - alpha)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: &[f64]) -> Tensor {
        Tensor::from_slice(values).to_kind(Kind::Float)
    }

    fn list(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor.to_kind(Kind::Double)).unwrap()
    }

    /// Learns odds among three tokens where the first stands in wanted text with mass q, in unwanted with mass u, and gives them.
    fn learnt(masses: &[(usize, f64, f64)], loss: impl Fn(&Tensor, &Tensor) -> Tensor) -> Vec<f64> {
        let logits = Tensor::zeros([3], (Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
        let places: Vec<i64> = masses.iter().map(|it| i64::try_from(it.0).unwrap()).collect();
        let shares = tensor(&masses.iter().map(|it| it.1).collect::<Vec<_>>());
        let rewards = tensor(&masses.iter().map(|it| it.2).collect::<Vec<_>>());
        for _ in 0..4000 {
            let log_probs =
                logits.log_softmax(0, Kind::Float).index_select(0, &Tensor::from_slice(&places));
            let cost = (loss(&log_probs, &rewards) * &shares).sum(Kind::Float);
            cost.backward();
            tch::no_grad(|| {
                let _ = logits.shallow_clone().g_sub_(&(logits.grad() * 0.5));
            });
            let _ = logits.grad().zero_();
        }
        list(&logits.softmax(0, Kind::Float))
    }

    #[test]
    fn unlikelihood_has_the_optimum_that_its_masses_say() {
        // p = q / (q + α u) of a token with q wanted and u unwanted, as long as these are no more than 1 together.
        let masses = [(0, 0.3, 0.0), (0, 0.3, -1.0), (1, 0.1, 0.0), (1, 0.3, -1.0)];
        let found =
            learnt(&masses, |log_probs, rewards| unlikelihood(log_probs, rewards, 0.0, 1.0));
        assert!((found[0] - 0.5).abs() < 0.01 && (found[1] - 0.25).abs() < 0.01, "{found:?}");
        // The rest goes where nothing was ever seen.
        assert!((found[2] - 0.25).abs() < 0.02, "{found:?}");
    }

    #[test]
    fn weights_tilt_what_is_learnt_and_a_value_changes_nothing_of_it() {
        let masses = [(0, 0.5, 0.0), (1, 0.5, -0.5)];
        // p ∝ mass · exp(R / β).
        let tilted = 1.0 / (1.0 + (-0.5 / 0.25_f64).exp());
        let by_reward =
            learnt(&masses, |log_probs, rewards| -(log_probs * weights(rewards, 0.25, 1000.0)));
        assert!((by_reward[0] - tilted).abs() < 0.01, "{by_reward:?}");
        let by_advantage = learnt(&masses, |log_probs, rewards| {
            let values = rewards.full_like(-0.25);
            let own = weights(&(rewards - &values), 0.25, 1000.0);
            advantage_weighted(log_probs, &own, rewards, &values, 0.5)
        });
        assert!((by_advantage[0] - tilted).abs() < 0.01, "{by_advantage:?}");
    }

    #[test]
    fn every_term_by_hand() {
        let (log_probs, rewards) = (tensor(&[0.75_f64.ln(), 0.75_f64.ln()]), tensor(&[0.0, -0.5]));
        let found = list(&unlikelihood(&log_probs, &rewards, 0.0, 0.5));
        assert!(
            (found[0] + 0.75_f64.ln()).abs() < 1e-6
                && (found[1] + 0.5 * 0.25_f64.ln()).abs() < 1e-6
        );
        assert_eq!(list(&weights(&tensor(&[0.0, 9.0]), 1.0, 100.0)), [1.0, 100.0]);
        let found = advantage_weighted(
            &log_probs,
            &tensor(&[2.0, 0.0]),
            &rewards,
            &tensor(&[-0.5, -0.5]),
            0.25,
        );
        let found = list(&found);
        // −¼ · 2 ln ¾ + ¾ · ¼; nothing.
        assert!((found[0] - (-0.5 * 0.75_f64.ln() + 0.1875)).abs() < 1e-6 && found[1].abs() < 1e-6);
        // A token of which the model is sure does not cost infinitely much.
        assert!(list(&unlikelihood(&tensor(&[0.0]), &tensor(&[-1.0]), 0.0, 1.0))[0].is_finite());
    }
}

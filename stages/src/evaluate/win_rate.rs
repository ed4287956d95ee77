//! How often a policy's completions beat another's.

use super::samples::{Reward, Sample, by_prompt};
use crate::nn::statistics::{Estimate, Outcomes, rate_of, won};

/// How often a sample has more reward than one of the rival's for the same prompt; ties count half. Every
/// sample meets every rival of its prompt, and both were sampled on the same prompts in one order. None if
/// any lacks the reward.
pub(super) fn win_rate(ours: &[Sample], theirs: &[Sample], reward: Reward) -> Option<Estimate> {
    let of_prompt = |(ours, rivals): (&[Sample], &[Sample])| {
        let mut outcomes = Outcomes { sum: 0.0, count: 0.0 };
        for sample in ours {
            for rival in rivals {
                outcomes.sum += won(reward.of(sample)? - reward.of(rival)?);
                outcomes.count += 1.0;
            }
        }
        Some(outcomes)
    };
    let prompts = by_prompt(ours).zip(by_prompt(theirs)).map(of_prompt);
    rate_of(&prompts.collect::<Option<Vec<_>>>()?)
}

#[cfg(test)]
mod tests {
    use super::{super::samples::tests::sample, *};

    #[test]
    fn every_sample_meets_every_rival_of_its_prompt() {
        let ours = [sample("a", 1.0), sample("a", 2.0), sample("b", 9.0), sample("b", 0.0)];
        let theirs = [sample("a", 1.0), sample("a", 0.0), sample("b", 5.0), sample("b", 5.0)];
        // 1 = 1, 1 > 0, 2 > 1, 2 > 0; then two of four.
        let found = win_rate(&ours, &theirs, Reward::TrueReward).unwrap();
        assert!((found.value - (3.5 + 2.0) / 8.0).abs() < 1e-12);
        assert!(found.interval.is_some_and(|it| it.low < found.value && found.value < it.high));
        assert_eq!(win_rate(&ours, &theirs, Reward::Score), None);
    }

    #[test]
    fn against_itself_a_policy_wins_half_the_time() {
        let ours = [sample("a", 1.0), sample("a", 2.0), sample("b", 9.0), sample("b", 9.0)];
        let found = win_rate(&ours, &ours, Reward::TrueReward).unwrap();
        assert!((found.value - 0.5).abs() < 1e-12);
    }
}

//! How far the distribution that was sampled from lies from the reference.

use gradus_protocol::Page;
use tch::{Device, Kind, Tensor};

use crate::{
    error::StageError,
    nn::{
        batch::{Example, as_i64},
        batches,
        decoder::Model,
        head,
        likelihood::learnt,
        logprob::divergence,
        sampling::Sampling,
    },
};

/// `Σ_t KL(p(·|x, y_<t) ‖ π_ref(·|x, y_<t))` of each row, over the whole vocabulary at every place; `p` is
/// what tokens were drawn from, the policy after repetition penalty, temperature and filters, and `π_ref` the
/// reference itself.
///
/// Its mean over samples y ~ p estimates the KL divergence between the two as distributions over
/// completions. Unlike the mean of `log p/π_ref` it cannot fall below zero, and it varies less (Amini et
/// al. 2025, eq. 10). Greedy decoding draws from no distribution: its divergence is not defined.
///
/// What stands on `page`, which is of these models and this sampling, is not computed again.
pub(super) fn sequence_divergences(
    [policy, reference]: [&Model; 2],
    rows: &[Example],
    sampling: &Sampling,
    page: &Page,
    report: impl FnMut(usize, usize) -> Result<(), StageError>,
) -> Result<Vec<f64>, StageError> {
    let lengths: Vec<usize> = rows.iter().map(|row| row.ids.len()).collect();
    let row = |row: usize| (&*rows[row].ids, rows[row].labels());
    batches::each_kept(page, row, &lengths, report, |part| {
        let part: Vec<&Example> = part.iter().map(|row| &rows[*row]).collect();
        let bins: Vec<&[Example]> = part.iter().map(|row| std::slice::from_ref(*row)).collect();
        let [ours, theirs] = [policy, reference].map(|model| learnt(model, &bins).0);
        let seen = seen(&part, policy.device());
        let mut tokens = Vec::new();
        for (start, length) in head::tiles(policy, ours.size()[0]) {
            let tile = |x: &Tensor| x.narrow(0, start, length);
            let drawn = sampling.filter(&policy.logits(&tile(&ours)), &tile(&seen));
            let found = divergence(&drawn, &reference.logits(&tile(&theirs)));
            tokens
                .extend(Vec::<f64>::try_from(found.to_kind(Kind::Double).to_device(Device::Cpu))?);
        }
        Ok(batches::sums(&tokens, part.iter().map(|row| row.labels())))
    })
}

/// The ids before each token that is learnt, as the repetition penalty saw them: [labels, longest]. The
/// row's first id fills up shorter ones, and so counts no other.
fn seen(rows: &[&Example], device: Device) -> Tensor {
    let width = rows.iter().map(|row| row.ids.len()).max().unwrap_or(1).max(2) - 1;
    let mut ids = Vec::new();
    for row in rows {
        for end in row.places().map(|place| place + 1) {
            let before = row.ids[..end].iter().chain(std::iter::repeat_n(&row.ids[0], width - end));
            ids.extend(before.map(|id| i64::from(*id)));
        }
    }
    Tensor::from_slice(&ids).view([-1, as_i64(width)]).to_device(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{
        config::tests::tiny,
        generate::{Limits, generate},
        stream::Stream,
    };

    fn models() -> [Model; 2] {
        [1, 2].map(|seed| Model::fresh(tiny(), Stream::of(seed), Device::Cpu))
    }

    fn rows() -> [Example; 2] {
        [vec![2, 3, 4, 1], vec![5, 6]].map(|ids| Example::after_prompt(ids, 1))
    }

    #[test]
    fn a_model_does_not_diverge_from_itself_but_from_another() {
        let [one, other] = models();
        let of = |reference| {
            sequence_divergences(
                [&one, reference],
                &rows(),
                &Sampling::PLAIN,
                &Page::blank(),
                |_, _| Ok(()),
            )
        };
        let same = of(&one).unwrap();
        assert!(same.len() == 2 && same.iter().all(|kl| kl.abs() < 1e-6));
        assert!(of(&other).unwrap().iter().all(|kl| *kl > 0.0));
    }

    #[test]
    fn taking_one_of_two_equally_likely_tokens_diverges_by_ln_2_a_token() {
        let mut model = Model::fresh(tiny(), Stream::of(1), Device::Cpu);
        let _ = model.parameters.get_mut("lm_head.weight").unwrap().zero_();
        // All sixteen tokens are as likely, and these are kept by their ties.
        let hot = Sampling { temperature: 3.0, top_k: 4, ..Sampling::PLAIN };
        let found =
            sequence_divergences([&model, &model], &rows(), &hot, &Page::blank(), |_, _| Ok(()))
                .unwrap();
        assert!(found.iter().all(|kl| kl.abs() < 1e-6), "{found:?}");
        // A penalty tells seen tokens from others only where logits differ from 0.
        let _ = model.parameters.get_mut("lm_head.weight").unwrap().fill_(1.0);
        let averse = Sampling { repetition_penalty: 2.0, ..Sampling::PLAIN };
        let found =
            sequence_divergences([&model, &model], &rows(), &averse, &Page::blank(), |_, _| Ok(()))
                .unwrap();
        assert!(found.iter().all(|kl| kl.is_finite() && *kl >= 0.0), "{found:?}");
    }

    #[test]
    fn the_mean_of_log_ratios_of_many_samples_comes_to_the_same() {
        let [policy, reference] = models();
        let sampling =
            Sampling { temperature: 0.8, top_k: 5, repetition_penalty: 1.3, ..Sampling::PLAIN };
        let prompts = vec![[2_u32, 3].as_slice(); 4000];
        let limits =
            Limits { max_new_tokens: 3, budgets: None, eos: &[1], rows: 500, steering: None };
        let draws = Stream::of(7).rows(prompts.len()).collect();
        let found =
            generate(&policy, &prompts, draws, &sampling, &limits, &Page::blank(), |_| Ok(()))
                .unwrap();
        let row = |ids: &[u32]| Example::after_prompt([&[2, 3], ids].concat(), 2);
        let rows: Vec<Example> = found.iter().map(|it| row(&it.ids)).collect();
        let exact = sequence_divergences(
            [&policy, &reference],
            &rows,
            &sampling,
            &Page::blank(),
            |_, _| Ok(()),
        )
        .unwrap();
        let exact = exact.iter().sum::<f64>() / 4000.0;
        let theirs: f64 = rows
            .chunks(500)
            .map(|part| {
                let bins: Vec<&[Example]> = part.iter().map(std::slice::from_ref).collect();
                let (hidden, ids) = learnt(&reference, &bins);
                let (log_probs, _) = head::log_probs(&reference, &hidden, &ids);
                log_probs.sum(Kind::Double).double_value(&[])
            })
            .sum();
        let ours: f64 =
            found.iter().flat_map(|it| &it.sampling_log_probs).map(|it| f64::from(*it)).sum();
        let sampled = (ours - theirs) / 4000.0;
        assert!((exact - sampled).abs() < 0.05 * exact, "{exact} {sampled}");
    }
}

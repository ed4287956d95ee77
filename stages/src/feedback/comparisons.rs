//! Pairs explained by the difference of two scores (Bradley & Terry 1952): the loss, how well it does on pairs that it has not
//! seen, and the training, for all kinds that learn from comparisons with a scalar head.

use tch::{Kind, Tensor};

use crate::{
    artifact,
    context::Context,
    error::StageError,
    nn::{
        batch::as_i64,
        decoder::Model,
        head::{Tail, log_probs},
        pretrained::Pretrained,
        ranking::Ranking,
        scores::scores,
        statistics::calibration_error,
        stepper::Loss,
        trainer::{Objective, Training, train},
    },
    port::Out,
    prepare::examples::{Comparison, Prepared},
};

/// What a pair costs beside being ranked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terms {
    /// Whether pairs are to differ by their margins.
    pub(super) use_margin: bool,
    /// Weight of `(s_c + s_l)²`.
    pub(super) centring: f64,
    /// Weight of the mean over tokens of `−log p(y_c | x)`.
    pub(super) imitation_weight: f64,
}

/// Trains a model on pairs, measures it on others, and writes what comes of it.
pub(super) fn learn(
    base: Pretrained,
    rows: Prepared<Comparison>,
    test: Option<Prepared<Comparison>>,
    (terms, training): (Terms, &Training),
    (model, curve): (&Out<impl Sized>, &Out<artifact::Metrics>),
    context: &mut Context,
) -> Result<(), StageError> {
    context.tally("", &rows.tally);
    if let Some(test) = &test {
        context.tally("test_", &test.tally);
    }
    let comparisons = |Prepared { rows, numbers, .. }, terms| Comparisons { rows, numbers, terms };
    let objective = comparisons(rows, terms);
    // Rows to test on need no margins.
    let test = test.map(|test| comparisons(test, Terms { use_margin: false, ..terms }));
    let on = (&objective as &dyn Objective, test.as_ref().map(|it| it as &dyn Objective));
    let order = context.stream("order");
    let learnt = train(&base.model, on, training, order, context)?;
    if let Some(test) = &test {
        let report = |done, all| context.progress(done, all, "test texts", "");
        let found = quality(&base.model, &test.rows, report)?;
        context.estimate("test_accuracy", &found.ranking.accuracy);
        context.summary("test_margin", found.ranking.margin);
        context.summary("test_calibration_error", found.calibration_error);
    }
    base.without_language_head().save(&model.path)?;
    context.learnt(&learnt, &curve.path)
}

/// `−log σ(s_c − s_l − m)` (Bradley & Terry 1952; m as in Touvron et al. 2023, eq. 2), plus `c (s_c + s_l)²`
/// against drift (Eisenstein et al. 2023, eq. 7): `[pairs]`.
pub(crate) fn comparison_losses(
    chosen: &Tensor,
    rejected: &Tensor,
    margin: Option<&Tensor>,
    centring: f64,
) -> Tensor {
    let gap = chosen - rejected;
    let losses = match margin {
        Some(margin) => -(gap - margin).log_sigmoid(),
        None => -gap.log_sigmoid(),
    };
    if centring > 0.0 { losses + (chosen + rejected).square() * centring } else { losses }
}

/// Comparisons to be explained by scores.
pub(crate) struct Comparisons {
    pub(crate) rows: Vec<Comparison>,
    /// Which row of the data each is.
    pub(crate) numbers: Vec<usize>,
    terms: Terms,
}

impl Objective for Comparisons {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn weight(&self, _: usize) -> f64 {
        1.0
    }

    fn number(&self, row: usize) -> usize {
        self.numbers[row]
    }

    /// A toss for every pair, and every token equally likely.
    fn loss_of_a_guess(&self, model: &Model) -> Option<f64> {
        let spoken = self.terms.imitation_weight * (model.config.vocab_size as f64).ln();
        Some(std::f64::consts::LN_2 + spoken)
    }

    fn tokens(&self, row: usize) -> usize {
        self.rows[row].chosen.len() + self.rows[row].rejected.len()
    }

    fn loss(&self, model: &Model, rows: &[usize], _: &[usize]) -> Result<Loss, StageError> {
        let pairs: Vec<&Comparison> = rows.iter().map(|row| &self.rows[*row]).collect();
        let ids: Vec<&[u32]> = (pairs.iter().map(|it| &*it.chosen))
            .chain(pairs.iter().map(|it| &*it.rejected))
            .collect();
        let imitated: &[&Comparison] = if self.terms.imitation_weight > 0.0 { &pairs } else { &[] };
        let places = imitated.iter().enumerate();
        let places = places.flat_map(|(row, it)| it.imitated().map(move |at| (row, at - 1)));
        let ends = ids.iter().enumerate().map(|(row, text)| (row, model.last(text)));
        let below = model.hidden_at(&ids, ends.chain(places));
        let labels = below.size()[0] - as_i64(ids.len());
        // Two heads read them, and the way back through what is below is long: it is gone once, for both.
        let learns = labels > 0 && below.requires_grad();
        let hidden =
            if learns { below.detach().set_requires_grad(true) } else { below.shallow_clone() };
        let scores = model.scored(&hidden.narrow(0, 0, as_i64(ids.len()))).chunk(2, 0);
        let (chosen, rejected) = (&scores[0], &scores[1]);
        #[expect(clippy::cast_possible_truncation, reason = "scores are float32")]
        let margin = |pair: &&Comparison| match pair.margin {
            Some(margin) if self.terms.use_margin => margin as f32,
            _ => 0.0,
        };
        let margins: Vec<f32> = pairs.iter().map(margin).collect();
        let margins = Tensor::from_slice(&margins).to_device(model.device());
        let losses = comparison_losses(chosen, rejected, Some(&margins), self.terms.centring);
        let sum = |x: Tensor| x.detach().sum(Kind::Float);
        let mut loss = Loss {
            sum: losses.sum(Kind::Float),
            metrics: vec![
                ("accuracy", sum(chosen.gt_tensor(rejected).to_kind(Kind::Float))),
                ("margin", sum(chosen - rejected)),
            ],
            tail: None,
        };
        if labels > 0 {
            let before = hidden.narrow(0, as_i64(ids.len()), labels);
            let (costs, tail) = imitation(model, &before, imitated);
            loss.metrics.push(("imitation_loss", costs.detach()));
            loss.sum += costs * self.terms.imitation_weight;
            loss.tail = tail.map(|it| it.sharing(below, hidden));
        }
        Ok(loss)
    }
}

/// The sum over preferred replies of their mean `−log p` per token, from the hidden states before those tokens.
fn imitation(model: &Model, hidden: &Tensor, pairs: &[&Comparison]) -> (Tensor, Option<Tail>) {
    let (mut ids, mut shares) = (Vec::new(), Vec::new());
    for pair in pairs {
        let tokens = pair.imitated();
        shares.extend(vec![1.0 / tokens.len() as f32; tokens.len()]);
        ids.extend(pair.chosen[tokens].iter().map(|id| i64::from(*id)));
    }
    let on = |it: Tensor| it.to_device(model.device());
    let (log_probs, tail) = log_probs(model, hidden, &on(Tensor::from_slice(&ids)));
    (-(log_probs * on(Tensor::from_slice(&shares))).sum(Kind::Float), tail)
}

/// How well a reward model does on comparisons it has not seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quality {
    pub(crate) ranking: Ranking,
    /// How far `σ(s_c − s_l)` lies from how often that reply is preferred; each pair is asked about from
    /// both sides.
    pub(crate) calibration_error: f64,
}

pub(crate) fn quality(
    model: &Model,
    rows: &[Comparison],
    report: impl FnMut(usize, usize) -> Result<(), StageError>,
) -> Result<Quality, StageError> {
    let texts: Vec<&[u32]> = rows.iter().flat_map(|row| [&*row.chosen, &*row.rejected]).collect();
    let scores = scores(model, &texts, None, report)?;
    let margins: Vec<f64> = scores.chunks(2).map(|pair| pair[0] - pair[1]).collect();
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let claims: Vec<(f64, bool)> =
        margins.iter().flat_map(|m| [(sigmoid(*m), true), (sigmoid(-*m), false)]).collect();
    let prompts: Vec<&[u8]> = rows.iter().map(|row| row.asked.bytes()).collect();
    let ranking = Ranking::of(&margins, &prompts);
    Ok(Quality { ranking, calibration_error: calibration_error(&claims) })
}

#[cfg(test)]
mod tests {
    use tch::{Device, IndexOp};

    use super::*;
    use crate::{
        nn::{
            config::{Config, Head, tests::tiny},
            stream::Stream,
        },
        prepare::token_rows::Asked,
    };

    #[test]
    fn equal_scores_cost_ln_2_and_centring_adds_the_square_of_their_sum() {
        let one = Tensor::from_slice(&[1_f32]);
        let plain = comparison_losses(&one, &one, None, 0.0).double_value(&[0]);
        assert!((plain - 2_f64.ln()).abs() < 1e-6);
        let centred = comparison_losses(&one, &one, None, 0.5).double_value(&[0]);
        assert!((centred - plain - 2.0).abs() < 1e-6);
        // 1 + ln 3 − 0 − 1 = ln 3, which wins in three of four.
        let (ahead, behind) = (Tensor::from_slice(&[1.0 + 3_f32.ln()]), one.zeros_like());
        let by_margin = comparison_losses(&ahead, &behind, Some(&one), 0.0).double_value(&[0]);
        assert!((by_margin + 0.75_f64.ln()).abs() < 1e-6);
    }

    /// No layers, so a text's score is that of its last token: ln 3 for token 2, else 0.
    fn fond_of_token_2() -> Model {
        let config = Config { layers: 0, head: Head::Score, pad: None, ..tiny() };
        let mut model = Model::fresh(config, Stream::of(1), Device::Cpu);
        for parameter in model.parameters.values_mut() {
            let _ = parameter.zero_();
        }
        let set = |name: &str, row: i64, value: f64| {
            let _ = model.parameters[name].i((row, 0)).fill_(value);
        };
        // The norm makes (1, 0, …) of eight numbers (√8, 0, …).
        set("model.embed_tokens.weight", 2, 1.0);
        set("score.weight", 0, 3_f64.ln() / 8_f64.sqrt());
        let _ = model.parameters.get_mut("model.norm.weight").unwrap().fill_(1.0);
        model
    }

    #[test]
    fn imitation_adds_what_the_preferred_reply_costs_per_token_and_nothing_of_the_prompt() {
        let row = |chosen: &[u32], prompt: usize| Comparison {
            chosen: chosen.to_vec().into(),
            rejected: vec![7, 8].into(),
            prompt,
            margin: None,
            asked: Asked::of(""),
        };
        let rows = vec![row(&[5, 2, 3], 1), row(&[4, 6, 9, 3, 2], 3)];
        let base = Model::fresh(tiny(), Stream::of(1), Device::Cpu);
        let mut model = base.with_score_head(Stream::of(2), true).trainable();
        let _ = tch::no_grad(|| model.parameters.get_mut("score.weight").unwrap().zero_());
        let of = |imitation_weight| Comparisons {
            rows: rows.clone(),
            numbers: vec![0, 1],
            terms: Terms { imitation_weight, ..Terms::default() },
        };
        let found = of(0.5).loss(&model, &[0, 1], &[0, 1]).unwrap();
        // What each token costs when its row is read alone.
        let cost = |row: &Comparison, at: usize| {
            let hidden = base.hidden_at(&[&row.chosen[..]], std::iter::once((0, at - 1)));
            let logs = base.logits(&hidden).log_softmax(-1, Kind::Double);
            -logs.double_value(&[0, i64::from(row.chosen[at])])
        };
        let costs = f64::midpoint(cost(&rows[0], 1), cost(&rows[0], 2))
            + f64::midpoint(cost(&rows[1], 3), cost(&rows[1], 4));
        let by_hand = 2.0 * 2_f64.ln() + 0.5 * costs;
        assert!((found.sum.double_value(&[]) - by_hand).abs() < 1e-4);
        // The trunk and the language model's head learn from it; the head is not handed on.
        found.sum.backward();
        found.tail.unwrap().backward(&model).unwrap();
        let gradient = |model: &Model, name: &str| model.parameters[name].grad().copy();
        assert!(gradient(&model, "lm_head.weight").abs().max().double_value(&[]) > 0.0);
        // As by automatic differentiation of the whole.
        let other = model.detached().trainable();
        let texts: Vec<&[u32]> =
            rows.iter().flat_map(|it| [&it.chosen[..], &it.rejected]).collect();
        let mut by_hand = Tensor::from(0_f32);
        for (row, pair) in rows.iter().enumerate() {
            let hidden = |text: usize, at: usize| {
                other.hidden_at(&texts[text..=text], [(0, at)].into_iter())
            };
            let score = |text: usize| other.scored(&hidden(text, texts[text].len() - 1));
            by_hand -= (score(2 * row) - score(2 * row + 1)).log_sigmoid().sum(Kind::Float);
            for at in pair.imitated() {
                let logs = other.logits(&hidden(2 * row, at - 1)).log_softmax(-1, Kind::Float);
                let share = 0.5 / pair.imitated().len() as f64;
                by_hand -= logs.get(0).get(i64::from(pair.chosen[at])) * share;
            }
        }
        by_hand.backward();
        for name in ["lm_head.weight", "score.weight", "model.embed_tokens.weight"] {
            let apart = gradient(&model, name) - gradient(&other, name);
            assert!(apart.abs().max().double_value(&[]) < 1e-5, "{name}");
        }
        assert!(of(0.0).loss(&model, &[0, 1], &[0, 1]).unwrap().tail.is_none());
        assert!(!model.without_language_head().parameters.contains_key("lm_head.weight"));
    }

    #[test]
    fn odds_of_three_to_one_that_hold_three_times_in_four_are_calibrated() {
        let row = |chosen: u32, rejected: u32| Comparison {
            chosen: vec![5, chosen].into(),
            rejected: vec![rejected].into(),
            prompt: 1,
            margin: None,
            asked: Asked::of(""),
        };
        let (won, lost) = (row(2, 3), row(3, 2));
        let rows = [won.clone(), won.clone(), won.clone(), lost];
        let found = quality(&fond_of_token_2(), &rows, |_, _| Ok(())).unwrap();
        assert!((found.ranking.accuracy.value - 0.75).abs() < 1e-12);
        assert!((found.ranking.margin - 3_f64.ln() / 2.0).abs() < 1e-4);
        assert!(found.calibration_error < 1e-4);
        // Those that always hold were claimed a quarter too low, and their opposites too high.
        let found = quality(&fond_of_token_2(), &rows[..3], |_, _| Ok(())).unwrap();
        assert!((found.calibration_error - 0.25).abs() < 1e-4);
    }
}

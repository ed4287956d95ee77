//! `feedback.reward_model`: a scalar head that scores the preferred reply higher (Bradley & Terry 1952;
//! Ouyang et al. 2022, eq. 1).
//!
//! A row's score stands at its last token, so rows should end in the end-of-text token.

use tch::{Device, Kind, Tensor};

use crate::{
    nn::{
        batch::Batch,
        llama::Model,
        statistics::calibration_error,
        trainer::{Loss, Objective},
    },
    policy::dpo::Ranking,
    stage::StageError,
};

/// Two whole texts; the first is preferred, by `margin` where that is known.
#[derive(Debug, Clone)]
pub(crate) struct Comparison {
    pub(crate) chosen: Vec<u32>,
    pub(crate) rejected: Vec<u32>,
    pub(crate) margin: f64,
}

/// −log σ(s_c − s_l − m) (Bradley & Terry 1952; m as in Touvron et al. 2023, eq. 2), plus c (s_c + s_l)²
/// against drift (Eisenstein et al. 2023, eq. 7): [pairs].
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
    /// Weight of (s_c + s_l)².
    pub(crate) centring: f64,
}

impl Objective for Comparisons {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn weight(&self, _: usize) -> f64 {
        1.0
    }

    fn tokens(&self, row: usize) -> usize {
        self.rows[row].chosen.len() + self.rows[row].rejected.len()
    }

    fn loss(&self, model: &Model, rows: &[usize]) -> Result<Loss, StageError> {
        let ids: Vec<&[u32]> = (rows.iter().map(|row| self.rows[*row].chosen.as_slice()))
            .chain(rows.iter().map(|row| self.rows[*row].rejected.as_slice()))
            .collect();
        let scores = model.scores(&Batch::right(&ids, model.pad(), model.device())).chunk(2, 0);
        let (chosen, rejected) = (&scores[0], &scores[1]);
        #[expect(clippy::cast_possible_truncation, reason = "scores are float32")]
        let margins: Vec<f32> = rows.iter().map(|row| self.rows[*row].margin as f32).collect();
        let margins = Tensor::from_slice(&margins).to_device(model.device());
        let losses = comparison_losses(chosen, rejected, Some(&margins), self.centring);
        let sum = |x: Tensor| x.detach().sum(Kind::Float);
        Ok(Loss {
            sum: losses.sum(Kind::Float),
            metrics: vec![
                ("accuracy", sum(chosen.gt_tensor(rejected).to_kind(Kind::Float))),
                ("margin", sum(chosen - rejected)),
            ],
        })
    }
}

/// Scores of any number of texts.
pub(crate) fn scores(model: &Model, texts: &[&[u32]]) -> Result<Vec<f64>, StageError> {
    let _no_grad = tch::no_grad_guard();
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|text| texts[*text].len());
    let mut scores = vec![0.0; texts.len()];
    for part in order.chunks(64) {
        let ids: Vec<&[u32]> = part.iter().map(|text| texts[*text]).collect();
        let values = model.scores(&Batch::right(&ids, model.pad(), model.device()));
        let values = Vec::<f64>::try_from(values.to_kind(Kind::Double).to_device(Device::Cpu))?;
        part.iter().zip(values).for_each(|(text, value)| scores[*text] = value);
    }
    Ok(scores)
}

/// How well a reward model does on comparisons it has not seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quality {
    pub(crate) ranking: Ranking,
    /// How far σ(s_c − s_l) lies from how often that reply is preferred; each pair is asked about from
    /// both sides.
    pub(crate) calibration_error: f64,
}

pub(crate) fn quality(model: &Model, rows: &[Comparison]) -> Result<Quality, StageError> {
    let texts: Vec<&[u32]> =
        rows.iter().flat_map(|row| [row.chosen.as_slice(), row.rejected.as_slice()]).collect();
    let scores = scores(model, &texts)?;
    let margins: Vec<f64> = scores.chunks(2).map(|pair| pair[0] - pair[1]).collect();
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let claims: Vec<(f64, bool)> =
        margins.iter().flat_map(|m| [(sigmoid(*m), true), (sigmoid(-*m), false)]).collect();
    Ok(Quality { ranking: Ranking::of(&margins), calibration_error: calibration_error(&claims) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_cost_ln_2_and_centring_adds_the_square_of_their_sum() {
        let one = Tensor::from_slice(&[1_f32]);
        let plain = comparison_losses(&one, &one, None, 0.0).double_value(&[0]);
        assert!((plain - 2_f64.ln()).abs() < 1e-6);
        let centred = comparison_losses(&one, &one, None, 0.5).double_value(&[0]);
        assert!((centred - plain - 2.0).abs() < 1e-6);
    }
}

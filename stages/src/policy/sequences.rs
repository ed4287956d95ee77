//! Log-probabilities of completions under a policy.

use tch::{Kind, Tensor};

use crate::{
    error::StageError,
    nn::{
        batch::{Example, as_i64},
        decoder::Model,
        head::{self, Said, Tail},
        likelihood::learnt,
    },
};

/// Σ log p over the completions, `[rows]`, and what is left to do on the way back.
pub(crate) fn sequence_log_probs(model: &Model, rows: &[&Example]) -> (Tensor, Option<Tail>) {
    let bins: Vec<&[Example]> = rows.iter().map(|row| std::slice::from_ref(*row)).collect();
    let (hidden, ids) = learnt(model, &bins);
    let (log_probs, tail) = head::log_probs(model, &hidden, &ids);
    (placed(&log_probs, rows).sum_dim_intlist(1, false, Kind::Float), tail)
}

/// Numbers of the tokens that are learnt: [rows, places].
pub(crate) struct Table {
    pub(crate) log_probs: Tensor,
    /// Nats, without gradient unless it was asked for.
    pub(crate) entropy: Tensor,
    /// 1 where there is a token.
    pub(crate) mask: Tensor,
    /// What is left to do on the way back.
    pub(crate) tail: Option<Tail>,
}

/// What `model` at a temperature thinks of every token that is learnt.
pub(crate) fn table(model: &Model, rows: &[&Example], temperature: f64) -> Table {
    table_by(head::said, model, rows, temperature)
}

/// The same, where entropies have gradients, too.
pub(crate) fn table_with_entropy(model: &Model, rows: &[&Example], temperature: f64) -> Table {
    table_by(head::said_with_entropy, model, rows, temperature)
}

fn table_by(
    said: fn(&Model, &Tensor, &Tensor) -> (Said, Option<Tail>),
    model: &Model,
    rows: &[&Example],
    temperature: f64,
) -> Table {
    let bins: Vec<&[Example]> = rows.iter().map(|row| std::slice::from_ref(*row)).collect();
    let (hidden, ids) = learnt(model, &bins);
    // The head is linear, so hidden states can be cooled in place of logits.
    let hidden =
        if (temperature - 1.0).abs() > f64::EPSILON { hidden / temperature } else { hidden };
    let (said, tail) = said(model, &hidden, &ids);
    let mask = placed(&said.entropy.ones_like(), rows);
    let entropy = placed(&said.entropy, rows);
    Table { log_probs: placed(&said.log_probs, rows), entropy, mask, tail }
}

/// Numbers of all learnt tokens, one row behind the other, as a table with a row for each: each has a place of its own, so
/// that sums are the same every time.
pub(crate) fn placed(numbers: &Tensor, rows: &[&Example]) -> Tensor {
    let width = rows.iter().map(|row| row.labels()).max().unwrap_or(0);
    let places =
        rows.iter().enumerate().flat_map(|(r, row)| (0..row.labels()).map(move |i| r * width + i));
    let places: Vec<i64> = places.map(as_i64).collect();
    let places = Tensor::from_slice(&places).to_device(numbers.device());
    let table = Tensor::zeros([as_i64(rows.len() * width)], (Kind::Float, numbers.device()));
    table.scatter(0, &places, numbers).view([as_i64(rows.len()), -1])
}

/// The numbers of each row of such a table, which lies in the host's memory.
pub(crate) fn by_row(table: &Tensor, rows: &[&Example]) -> Result<Vec<Vec<f64>>, StageError> {
    let width = usize::try_from(table.size()[1]).unwrap_or(0);
    let all = Vec::<f64>::try_from(table.to_kind(Kind::Double).flatten(0, -1))?;
    let own = |(at, row): (usize, &&Example)| all[at * width..at * width + row.labels()].to_vec();
    Ok(rows.iter().enumerate().map(own).collect())
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::nn::{config::tests::tiny, stream::Stream};

    #[test]
    fn a_model_without_opinions_gives_every_token_one_in_sixteen() {
        let mut model = Model::fresh(tiny(), Stream::of(1), Device::Cpu);
        let _ = model.parameters.get_mut("lm_head.weight").unwrap().zero_();
        let rows = [vec![2, 3, 4, 1], vec![5, 6]].map(|ids| Example::after_prompt(ids, 1));
        let (found, _) = sequence_log_probs(&model, &[&rows[0], &rows[1]]);
        let by_hand = Tensor::from_slice(&[3_f32, 1.0]) * -16_f64.ln();
        assert!((found - by_hand).abs().max().double_value(&[]) < 1e-5);
    }
}

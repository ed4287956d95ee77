//! `data.filter`: only those texts whose segments are good enough, as what is not read is not imitated (Korbak et al. 2023, "Pretraining
//! Language Models with Human Preferences": filtering), or that match.

use gradus_protocol::catalog::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    artifact::{
        self,
        dataset::{Format, Row},
        dataset_folder::{Reader, write_all},
    },
    context::Context,
    error::StageError,
    nn::statistics::mean,
    port::{Out, ports},
    prepare::segments::{Segmented, quantile, segmented},
    rules::{param, rule},
    stage::{Given, Stage},
    verifier::compiled,
};

/// Leave out texts.
pub(crate) struct Filter;

/// What is said of a text's segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Statistic {
    /// The mean of their rewards.
    #[default]
    Mean,
    /// The least of them.
    Min,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// What is said of a text's segments.
    #[serde(default)]
    statistic: Statistic,
    /// The least that a text must come to.
    #[serde(default)]
    threshold: Option<f64>,
    /// In place of a threshold: the share of texts that is left out, as far as they differ.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    quantile: Option<f64>,
    /// A regular expression that texts must match somewhere.
    #[serde(default)]
    pattern: Option<String>,
}

ports!(Inputs {
    /// The texts; for `threshold` and `quantile` with the column `segments`, from `data.score`.
    text: artifact::Text,
});
ports!(Outputs {
    /// Those that stay, as they were.
    text: Out<artifact::Text>,
});

impl Stage for Filter {
    const KIND: &'static str = "data.filter";
    const REVISION: u32 = 1;
    const USES_DEVICE: bool = false;
    const USES_SEED: bool = false;
    const LOOKS: bool = true;
    const DOC: &'static str = "Leave out texts that are not good enough, or do not match.

`rows_kept` and `letters_kept` are the shares that stay: whoever compares with training on everything gives both as many tokens.";
    type Params = Params;
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn rules() -> Vec<Rule> {
        vec![
            rule(
                "say which texts stay: by a `threshold`, a `quantile`, or a `pattern`",
                [
                    param("threshold").missing(),
                    param("quantile").missing(),
                    param("pattern").missing(),
                ],
            ),
            rule(
                "`threshold` and `quantile` both say what is good enough: leave one out",
                [param("threshold").given(), param("quantile").given()],
            ),
        ]
    }

    fn look(params: &Params, _inputs: &Given) -> Result<(), StageError> {
        let pattern = params.pattern.as_deref();
        pattern.map_or(Ok(()), |it| compiled(it).map(drop).map_err(StageError::Refused))
    }

    fn run(
        params: Params,
        inputs: Inputs,
        outputs: Outputs,
        context: &mut Context,
    ) -> Result<(), StageError> {
        let rows: Vec<Row> = Reader::open_some("text", &inputs.text.source)?
            .map(|row| context.heard().and(row))
            .collect::<Result<_, _>>()?;
        let mut stays = vec![true; rows.len()];
        if let Some(pattern) = &params.pattern {
            let pattern = compiled(pattern).map_err(StageError::Refused)?;
            stays = rows.iter().map(|row| pattern.is_match(&text_of(row))).collect();
        }
        if params.threshold.is_some() || params.quantile.is_some() {
            let texts = segmented("text", &inputs.text.source, || context.heard())?;
            let worth: Vec<f64> = texts.iter().map(|it| params.worth(it)).collect();
            let least = params
                .threshold
                .unwrap_or_else(|| quantile(&worth, params.quantile.unwrap_or(0.0)));
            if least.is_finite() {
                context.summary("threshold", least);
            }
            stays.iter_mut().zip(&worth).for_each(|(stays, worth)| *stays &= *worth >= least);
        }
        let letters =
            |rows: &[Row]| rows.iter().map(|it| text_of(it).chars().count()).sum::<usize>();
        let (all, before) = (rows.len(), letters(&rows));
        let mut keep = stays.into_iter();
        let kept: Vec<Row> = rows.into_iter().filter(|_| keep.next().unwrap_or(false)).collect();
        context.summary("rows", kept.len() as f64);
        context.summary("rows_kept", kept.len() as f64 / all.max(1) as f64);
        context.summary("letters_kept", letters(&kept) as f64 / before.max(1) as f64);
        if kept.is_empty() {
            return Err(StageError::refused(format!(
                "none of the {all} texts stays: lower `threshold` or `quantile`, or mend `pattern`"
            )));
        }
        write_all(&outputs.text.path, Format::Text, &kept)
    }
}

impl Params {
    /// What a text comes to; of one without segments nothing can be said against it.
    fn worth(&self, it: &Segmented) -> f64 {
        let rewards: Vec<f64> = it.rewards().collect();
        match self.statistic {
            _ if rewards.is_empty() => f64::INFINITY,
            Statistic::Mean => mean(&rewards),
            Statistic::Min => rewards.into_iter().fold(f64::INFINITY, f64::min),
        }
    }
}

fn text_of(row: &Row) -> String {
    format!("{}{}", row.prompt(), row.completion().unwrap_or_default())
}

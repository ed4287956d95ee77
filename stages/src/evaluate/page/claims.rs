//! Claims, each with its verdict and the numbers behind it.

use std::fs;

use maud::{Markup, html};
use serde::Deserialize;

use super::document::Section;
use crate::{
    artifact,
    error::StageError,
    nn::statistics::Estimate,
    port::{Many, file_of},
};

/// As much of the file of `evaluate.claim` as is shown.
#[derive(Debug, Deserialize)]
pub(crate) struct Read {
    statement: String,
    metric: String,
    against: String,
    direction: String,
    threshold: f64,
    holds: bool,
    estimate: Estimate,
    replicates: Vec<Replicate>,
}

#[derive(Debug, Deserialize)]
struct Replicate {
    name: String,
    candidate: f64,
    baseline: Option<f64>,
    value: f64,
}

impl Read {
    pub(crate) fn holds(&self) -> bool {
        self.holds
    }

    /// What the numbers are: `Δ reward`, say.
    fn statistic(&self) -> String {
        let paired = self.replicates.iter().any(|it| it.baseline.is_some());
        let sign = match self.against.as_str() {
            _ if !paired => "",
            "difference" => "Δ ",
            "ratio" => "ratio of ",
            "distance" => "|Δ| of ",
            "error_ratio" => "ratio of errors, ",
            _ => "",
        };
        format!("{sign}{}", self.metric)
    }
}

pub(crate) fn read(came: &Many<artifact::Claimed>) -> Result<Vec<Read>, StageError> {
    let one = |(name, it): &(String, artifact::Claimed)| {
        let path = file_of(&it.source)?;
        let text = fs::read_to_string(path).map_err(StageError::file(path))?;
        serde_json::from_str(&text)
            .map_err(|error| StageError::refused(format!("`{name}` is no claim: {error}")))
    };
    came.0.iter().map(one).collect()
}

pub(crate) fn section(claims: &[Read]) -> Section {
    let holding = claims.iter().filter(|it| it.holds).count();
    let content = html! {
        p { (holding) " of " (claims.len()) " hold. Intervals hold 95 %, by Student's t over replicates." }
        @for claim in claims { (shown(claim)) }
    };
    Section { title: "Claims".to_owned(), content }
}

fn shown(claim: &Read) -> Markup {
    let side = if claim.direction == "at_least" { "≥" } else { "≤" };
    let interval = claim.estimate.interval;
    let paired = claim.replicates.iter().any(|it| it.baseline.is_some());
    let number = |value: f64| format!("{value:.4}");
    html! {
        details.claim {
            summary {
                @if claim.holds { span.verdict.holds { "holds" } } @else { span.verdict.fails { "does not hold" } }
                " " (claim.statement) ": "
                span.number { (claim.statistic()) " = " (number(claim.estimate.value)) }
                @if let Some(it) = interval { span.number { " (" (number(it.low)) " to " (number(it.high)) ")" } }
                ", to be " span.number { (side) " " (claim.threshold) }
            }
            table {
                thead { tr { th { "replicate" } th { "candidate" } @if paired { th { "baseline" } } th { "value" } } }
                tbody {
                    @for it in &claim.replicates {
                        tr {
                            td { (it.name) }
                            td { (number(it.candidate)) }
                            @if paired { td { (it.baseline.map_or("–".to_owned(), number)) } }
                            td { (number(it.value)) }
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
    fn a_claim_is_shown_with_its_verdict_and_every_replicate() {
        let text = r#"{"gradus_claim":1,"statement":"A < B","metric":"reward","steps":{},"against":"difference","over":"seed",
            "direction":"at_most","threshold":0.5,"by":"mean","holds":false,"estimate":{"value":0.75,"interval":{"low":0.5,"high":1.0}},
            "beyond":0.0,"replicates_beyond":0,"replicates":[{"name":"1","candidate":2.0,"baseline":1.25,"value":0.75}]}"#;
        let claim: Read = serde_json::from_str(text).unwrap();
        let page = section(&[claim]).content.into_string();
        assert!(page.starts_with("<p>0 of 1 hold."), "{page}");
        for part in [
            "does not hold",
            "A &lt; B",
            "Δ reward = 0.7500",
            "(0.5000 to 1.0000)",
            "≤ 0.5",
            "<td>1.2500</td>",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }
}

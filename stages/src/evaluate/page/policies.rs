//! The policies that were compared: a table, and their reward against KL.

use gradus_plot::Figure;
use maud::html;

use super::document::{Section, drawn, markdown};
use crate::{
    error::StageError,
    evaluate::side_by_side::{Told, legend, table},
};

/// The table of the comparison, and its frontier where there is one to draw.
pub(crate) fn section(told: &Told, frontier: &Figure) -> Result<Section, StageError> {
    let points: usize = frontier.series.iter().map(|series| series.points.len()).sum();
    let frontier = (points > 1).then(|| drawn(frontier)).transpose()?;
    let content = html! {
        (markdown(&table(told)))
        div.legend { (markdown(&legend(told))) }
        @if let Some(frontier) = frontier { (frontier) }
    };
    Ok(Section { title: "Policies".to_owned(), content })
}

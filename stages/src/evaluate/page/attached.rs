//! What other stages made, as it is: plots, tables, reports.

use std::fs;

use maud::{Markup, html};

use super::document::{Section, image, markdown};
use crate::{
    artifact,
    error::StageError,
    port::{Many, file_of},
};

pub(crate) fn plots(came: &Many<artifact::Plot>) -> Result<Section, StageError> {
    let one = |(name, it): &(String, artifact::Plot)| {
        let path = file_of(&it.source)?;
        let svg = fs::read(path).map_err(StageError::file(path))?;
        Ok(html! { div { h3 { (name) } (image(&svg, name)) } })
    };
    let shown: Vec<Markup> = came.0.iter().map(one).collect::<Result<_, StageError>>()?;
    let content = html! { div.grid { @for one in shown { (one) } } };
    Ok(Section { title: "Plots".to_owned(), content })
}

pub(crate) fn tables(came: &Many<artifact::Table>) -> Result<Section, StageError> {
    let one = |(name, it): &(String, artifact::Table)| {
        let path = file_of(&it.source)?;
        let text = fs::read_to_string(path).map_err(StageError::file(path))?;
        let table = table(&text)
            .map_err(|why| StageError::refused(format!("the table of `{name}`: {why}")))?;
        Ok(html! { h3 { (name) } (table) })
    };
    let shown: Vec<Markup> = came.0.iter().map(one).collect::<Result<_, StageError>>()?;
    let content = html! { @for one in shown { (one) } };
    Ok(Section { title: "Tables".to_owned(), content })
}

pub(crate) fn reports(came: &Many<artifact::Report>) -> Result<Section, StageError> {
    let one = |(name, it): &(String, artifact::Report)| {
        let path = file_of(&it.source)?;
        let text = fs::read_to_string(path).map_err(StageError::file(path))?;
        Ok(html! { details { summary { (name) } (markdown(&text)) } })
    };
    let shown: Vec<Markup> = came.0.iter().map(one).collect::<Result<_, StageError>>()?;
    let content = html! { @for one in shown { (one) } };
    Ok(Section { title: "Reports".to_owned(), content })
}

/// A CSV table with numbers shortened to what can be read.
fn table(text: &str) -> Result<Markup, String> {
    let mut read = csv::Reader::from_reader(text.as_bytes());
    let headings = read.headers().map_err(|error| error.to_string())?.clone();
    let rows = read.records().collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    Ok(html! {
        div.scrolled {
            table {
                thead { tr { @for it in &headings { th { (it) } } } }
                tbody { @for row in &rows { tr { @for it in row { td title=(it) { (short(it)) } } } } }
            }
        }
    })
}

/// At most four places; what is no number stays as it is.
fn short(cell: &str) -> String {
    let places = cell.split_once('.').map_or(0, |(_, places)| places.len());
    match cell.parse::<f64>() {
        Ok(number) if places > 4 && (number == 0.0 || number.abs() >= 1e-3) => {
            format!("{number:.4}")
        }
        Ok(number) if places > 4 => format!("{number:.3e}"),
        _ => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_keeps_its_cells_and_shortens_numbers() {
        let page = table("name,value\n\"a,<b>\",0.123456789\nlong,12\n").unwrap().into_string();
        for part in ["<th>value</th>", "a,&lt;b&gt;", "title=\"0.123456789\"", ">0.1235<", ">12<"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(table("a,b\n1\n").is_err());
    }

    #[test]
    fn small_numbers_do_not_become_nothing() {
        assert_eq!(
            ["0.00001234", "-0.25", "1.00000", "x.12345"].map(short),
            ["1.234e-5", "-0.25", "1.0000", "x.12345"]
        );
    }
}

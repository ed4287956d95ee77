//! Tables of runs, for people, as CSV, and as JSON.

use gradus_engine::run::{Cell, Table};
use serde_json::{Map, Value, json};

use super::{
    paint::{harmless, number, pad},
    screen::Terminal,
    width::of_stdout,
};

/// A number that takes no more room is written in full.
const SHORT: usize = 6;

impl Terminal {
    pub(crate) fn table(&self, table: &Table) {
        if self.csv {
            return self.text(&as_csv(table));
        }
        if self.json {
            let row = |row: &Vec<Cell>| -> Map<String, Value> {
                table.columns.iter().cloned().zip(row.iter().map(|cell| json!(cell))).collect()
            };
            return self.value(&table.rows.iter().map(row).collect::<Vec<_>>());
        }
        let columns: Vec<(&str, Vec<String>)> = folded(table);
        if table.rows.is_empty() {
            return self.line("no run has such a row");
        }
        let widths: Vec<usize> = columns
            .iter()
            .map(|(name, cells)| {
                let cells = cells.iter().map(|cell| cell.chars().count());
                cells.chain([name.chars().count()]).max().unwrap_or(0)
            })
            .collect();
        let line = |cells: Vec<&str>| {
            let cells = cells.iter().zip(&widths).map(|(cell, width)| pad(cell, *width));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let whole = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
        if of_stdout().is_some_and(|wide| whole > wide) {
            return self.one_by_one(&columns, table.rows.len());
        }
        self.line(&self.out.bold(&line(columns.iter().map(|(name, _)| *name).collect())));
        for at in 0..table.rows.len() {
            self.line(&line(columns.iter().map(|(_, cells)| cells[at].as_str()).collect()));
        }
    }
}

impl Terminal {
    /// Where no line has room for a row.
    fn one_by_one(&self, columns: &[(&str, Vec<String>)], rows: usize) {
        let width = columns.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for at in 0..rows {
            for (name, cells) in columns {
                self.line(&format!("{}  {}", self.out.dim(&pad(name, width)), cells[at]));
            }
            if at + 1 < rows {
                self.line("");
            }
        }
    }
}

/// The columns in words. Bounds that stand among them go behind their number.
fn folded(table: &Table) -> Vec<(&str, Vec<String>)> {
    let at = |name: &str| table.columns.iter().position(|it| it == name);
    let bound = |name: &str| Some((at(&format!("{name}_low"))?, at(&format!("{name}_high"))?));
    let is_bound = |name: &str| {
        let of = name.strip_suffix("_low").or_else(|| name.strip_suffix("_high"));
        of.is_some_and(|of| at(of).is_some() && bound(of).is_some())
    };
    let shown = table.columns.iter().enumerate().filter(|(_, name)| !is_bound(name));
    shown
        .map(|(column, name)| {
            let cells = table.rows.iter().map(|row| {
                let own = in_words(&row[column]);
                match bound(name) {
                    Some((low, high)) if row[low] != Cell::Nothing => {
                        format!("{own} ({} to {})", in_words(&row[low]), in_words(&row[high]))
                    }
                    _ => own,
                }
            });
            (name.as_str(), cells.collect())
        })
        .collect()
}

fn in_words(cell: &Cell) -> String {
    match cell {
        Cell::Nothing => "-".to_owned(),
        // What a person wrote, they know again.
        Cell::Number(value) => match value.to_string() {
            plain if plain.len() <= SHORT => plain,
            _ => number(*value),
        },
        Cell::Text(text) => harmless(text),
    }
}

/// RFC 4180. Numbers are written in full.
fn as_csv(table: &Table) -> String {
    let quoted = |text: &str| {
        if text.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text.to_owned()
        }
    };
    let cell = |cell: &Cell| match cell {
        Cell::Nothing => String::new(),
        Cell::Number(value) => value.to_string(),
        Cell::Text(text) => quoted(text),
    };
    let head = table.columns.iter().map(|it| quoted(it)).collect::<Vec<_>>().join(",");
    let rows = table.rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join(","));
    [head].into_iter().chain(rows).map(|line| line + "\n").collect()
}

//! A report in Markdown on a terminal: as it is where it fits. On a narrower one paragraphs are broken between words, a
//! table has a line for each cell, and a drawing, which cannot be made narrower, is only named.

use super::width::fitted;

/// The lines of `text` for a terminal of so many columns; all as they are where there is none.
pub(super) fn fitting(text: &str, columns: Option<usize>) -> String {
    let Some(columns) = columns else { return text.to_owned() };
    let mut lines = Vec::new();
    let mut rest = text.lines().peekable();
    while let Some(line) = rest.next() {
        if line.starts_with("```") {
            let mut block = vec![line];
            block.extend(rest.by_ref().take_while(|it| !it.starts_with("```")));
            lines.extend(drawing(&block, columns));
        } else if line.starts_with('|') {
            let mut rows = vec![line];
            while let Some(row) = rest.next_if(|it| it.starts_with('|')) {
                rows.push(row);
            }
            lines.extend(table(&rows, columns));
        } else {
            lines.push(fitted(line, Some(columns)));
        }
    }
    lines.join("\n") + "\n"
}

fn width(line: &str) -> usize {
    console::measure_text_width(line)
}

/// A block without its last fence.
fn drawing(block: &[&str], columns: usize) -> Vec<String> {
    let widest = block.iter().map(|line| width(line)).max().unwrap_or(0);
    if widest > columns {
        let words =
            format!("(a drawing of {widest} columns: widen the terminal, or look at the picture)");
        return vec![fitted(&words, Some(columns))];
    }
    block.iter().map(ToString::to_string).chain(["```".to_owned()]).collect()
}

fn table(rows: &[&str], columns: usize) -> Vec<String> {
    if rows.iter().all(|row| width(row) <= columns) {
        return rows.iter().map(ToString::to_string).collect();
    }
    let cells = |row: &str| -> Vec<String> {
        row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let names = cells(rows[0]);
    let widest = names.iter().map(|name| width(name)).max().unwrap_or(0);
    let mut lines = Vec::new();
    for row in rows.iter().skip(2) {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        for (name, cell) in names.iter().zip(cells(row)) {
            let blanks = " ".repeat(widest - width(name));
            lines.push(fitted(&format!("{name}{blanks}  {cell}"), Some(columns)));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "# Title

| policy | true reward | prompts |
| :-- | --: | --: |
| dpo | 0.739 (0.703 to 0.776) | 128 |
| sft | 0.034 (-0.018 to 0.086) | 128 |

Intervals hold 95 %, over prompts. A single prompt has none.

```text
0.8 ┤                                          a
    └─────────────────────────────────────────────
```
";

    #[test]
    fn what_fits_or_goes_to_no_terminal_stays_as_it_is() {
        assert_eq!(fitting(REPORT, None), REPORT);
        assert_eq!(fitting(REPORT, Some(80)), REPORT);
    }

    #[test]
    fn on_a_narrow_terminal_a_table_has_a_line_for_each_cell() {
        insta::assert_snapshot!(fitting(REPORT, Some(36)), @"
        # Title
        
        policy       dpo
        true reward  0.739 (0.703 to 0.776)
        prompts      128
        
        policy       sft
        true reward  0.034 (-0.018 to 0.086)
        prompts      128
        
        Intervals hold 95 %, over prompts. A
            single prompt has none.
        
        (a drawing of 50 columns: widen the
            terminal, or look at the
            picture)
        ");
        assert!(fitting(REPORT, Some(36)).lines().all(|line| width(line) <= 36));
    }
}

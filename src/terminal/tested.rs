//! What a test of a pipeline found, as differences from its snapshots.

use std::path::Path;

use gradus_engine::run::{Checked, NumberOff, Verdict};
use serde_json::json;

use super::{
    paint::{harmless, pad},
    screen::Terminal,
    streams::print,
};

/// Of a longer difference, the rest is left to an editor.
const MOST_LINES: usize = 40;
/// Equal lines that are shown around others.
const CONTEXT: usize = 2;
/// Beyond this many pairs of lines, a difference is told by its first and last line.
const MOST_PAIRS: usize = 4_000_000;

impl Terminal {
    /// Prints what was compared; whether all is as expected.
    pub(crate) fn tested(&self, pipeline: &Path, checked: &[Checked]) -> bool {
        let good = |it: &Checked| matches!(it.verdict, Verdict::Same | Verdict::Accepted);
        let agrees = checked.iter().all(good);
        if self.json {
            let rows: Vec<_> = checked.iter().map(as_json).collect();
            let event = json!({ "event": "tested", "pipeline": pipeline, "snapshots": rows });
            print(&format!("{event}\n"));
            return agrees;
        }
        for it in checked {
            self.checked_one(it);
        }
        let count = checked.iter().filter(|it| !good(it)).count();
        let words = match (checked.len(), count) {
            (0, _) => "nothing to compare: no stage has metrics".to_owned(),
            (all, 0) => format!("{all} as expected"),
            (all, count) => {
                format!(
                    "{count} of {all} not as expected; `gradus test --accept` takes what was found"
                )
            }
        };
        let mark = if agrees { self.out.green("✓") } else { self.out.red("✗") };
        self.line(&format!("{mark} {}: {words}", pipeline.display()));
        agrees
    }

    fn checked_one(&self, it: &Checked) {
        let title = harmless(&it.title);
        let file = self.out.dim(&it.file.display().to_string());
        let bad = |word: &str| format!("{} {title}  {word}  {file}", self.out.red("✗"));
        match &it.verdict {
            Verdict::Same => self.line(&format!("{} {title}", self.out.green("✓"))),
            Verdict::Accepted => {
                self.line(&format!("{} {title}  accepted  {file}", self.out.yellow("✓")));
            }
            Verdict::Missing(found) => {
                self.line(&bad("has no snapshot yet"));
                self.lines(found.lines().map(|line| ('+', line)));
            }
            Verdict::Unreadable(why) => self.line(&bad(why)),
            Verdict::Numbers(off, tolerance) => {
                self.line(&bad(&format!("differs (tolerance {tolerance})")));
                self.numbers(off);
            }
            Verdict::Text { expected, found } => {
                self.line(&bad("differs"));
                self.lines(difference(expected, found));
            }
        }
    }

    fn numbers(&self, off: &[NumberOff]) {
        let words = |side: &Option<String>| side.clone().unwrap_or_else(|| "absent".to_owned());
        let rows: Vec<_> = off
            .iter()
            .map(|it| (it.name.as_str(), words(&it.expected), words(&it.found)))
            .collect();
        let names = rows.iter().map(|it| it.0.chars().count()).max().unwrap_or(0);
        let sides = rows.iter().map(|it| it.1.chars().count()).max().unwrap_or(0).max(8);
        let titles = format!("    {}  {}  found", pad("", names), pad("expected", sides));
        self.line(&self.out.dim(&titles));
        for (name, expected, found) in rows {
            self.line(&format!("    {}  {}  {found}", pad(name, names), pad(&expected, sides)));
        }
    }

    fn lines<'l>(&self, lines: impl IntoIterator<Item = (char, &'l str)>) {
        let lines: Vec<_> = lines.into_iter().collect();
        for (mark, line) in lines.iter().take(MOST_LINES) {
            let text = harmless(&format!("    {mark} {line}"));
            let text = text.trim_end();
            self.line(&match mark {
                '-' => self.out.red(text),
                '+' => self.out.green(text),
                _ => self.out.dim(text),
            });
        }
        if lines.len() > MOST_LINES {
            self.line(&self.out.dim(&format!("    … {} more lines", lines.len() - MOST_LINES)));
        }
    }
}

fn as_json(it: &Checked) -> serde_json::Value {
    let mut value = json!({ "title": it.title, "file": it.file });
    let (word, more) = match &it.verdict {
        Verdict::Same => ("same", json!({})),
        Verdict::Accepted => ("accepted", json!({})),
        Verdict::Missing(found) => ("missing", json!({ "found": found })),
        Verdict::Unreadable(why) => ("unreadable", json!({ "why": why })),
        Verdict::Text { expected, found } => {
            ("differs", json!({ "expected": expected, "found": found }))
        }
        Verdict::Numbers(off, tolerance) => {
            let rows = off
                .iter()
                .map(|it| json!({ "name": it.name, "expected": it.expected, "found": it.found }));
            let rows: Vec<_> = rows.collect();
            ("differs", json!({ "tolerance": tolerance, "numbers": rows }))
        }
    };
    value["verdict"] = word.into();
    for (key, more) in more.as_object().into_iter().flatten() {
        value[key] = more.clone();
    }
    value
}

/// Lines of one text alone with `-`, of the other alone with `+`, and a few of both around them.
fn difference<'t>(expected: &'t str, found: &'t str) -> Vec<(char, &'t str)> {
    let (a, b): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    let equal = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let left = a.len().min(b.len()) - equal;
    let ending = a.iter().rev().zip(b.iter().rev()).take(left).take_while(|(a, b)| a == b).count();
    let (old, new) = (&a[equal..a.len() - ending], &b[equal..b.len() - ending]);
    let mut lines: Vec<(char, &str)> = Vec::new();
    lines.extend(a[equal.saturating_sub(CONTEXT)..equal].iter().map(|line| (' ', *line)));
    if old.len().saturating_mul(new.len()) > MOST_PAIRS {
        lines.extend(old.iter().map(|line| ('-', *line)));
        lines.extend(new.iter().map(|line| ('+', *line)));
    } else {
        lines.extend(aligned(old, new));
    }
    lines.extend(a[a.len() - ending..].iter().take(CONTEXT).map(|line| (' ', *line)));
    lines
}

/// By the longest sequence of lines that both have.
fn aligned<'t>(old: &[&'t str], new: &[&'t str]) -> Vec<(char, &'t str)> {
    // `common[i][j]`: how many lines `old[i..]` and `new[j..]` can have in common.
    let mut common = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(('-', old[i]));
            i += 1;
        } else {
            lines.push(('+', new[j]));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn only_lines_that_differ_are_marked() {
        let text = |lines: &[&str]| lines.join("\n");
        let old = text(&["a", "b", "c", "d", "e", "f", "g", "h"]);
        let new = text(&["a", "b", "c", "D", "e", "new", "f", "g", "h"]);
        let lines = difference(&old, &new);
        let lines: Vec<_> = lines.iter().map(|(mark, line)| format!("{mark}{line}")).collect();
        assert_eq!(lines, [" b", " c", "-d", "+D", " e", "+new", " f", " g"]);
        assert!(difference(&old, &old).iter().all(|(mark, _)| *mark == ' '));
    }
}

//! How wide a terminal is, and text that fits: broken between words, never inside one.

use console::Term;
use textwrap::{Options, WordSeparator, WordSplitter};

/// Of a line that is broken, the rest stands so far in.
const INDENT: &str = "    ";
/// A blank at which no line is broken.
const HARD: &str = "\u{a0}";
/// Narrower than this nothing is made to fit.
const NARROWEST: usize = 40;

/// The columns behind stdout, where it is a terminal; asked anew each time, for a terminal may be resized.
pub(super) fn of_stdout() -> Option<usize> {
    of(&Term::stdout())
}

/// The same of stderr.
pub(super) fn of_stderr() -> Option<usize> {
    of(&Term::stderr())
}

fn of(terminal: &Term) -> Option<usize> {
    let columns = terminal.is_term().then(|| terminal.size_checked()).flatten();
    columns.map(|(_, columns)| usize::from(columns).max(NARROWEST))
}

/// `line` as lines of at most `columns`. What has no place to be broken at stays whole.
pub(super) fn fitted(line: &str, columns: Option<usize>) -> String {
    let Some(columns) = columns.filter(|columns| line.len() > *columns) else {
        return line.to_owned();
    };
    let options = Options::new(columns)
        .subsequent_indent(INDENT)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation);
    // What stands between two blanks, a number with its name say, stays together where it can.
    let kept = |part: &str| {
        let is_short = console::measure_text_width(part) <= columns / 2;
        if is_short { part.replace(' ', HARD) } else { part.to_owned() }
    };
    let parts: Vec<String> = line.split("  ").map(kept).collect();
    textwrap::wrap(&parts.join("  "), options).join("\n").replace(HARD, " ")
}

/// What is said of a stage under way, as much of it as fits: the name and how far it is, then how long it will take, what
/// is counted, a bar, and how fast it goes.
pub(super) struct Progress<'a> {
    pub(super) name: &'a str,
    pub(super) done: u64,
    pub(super) of: u64,
    /// What is counted, and the newest figure.
    pub(super) words: &'a str,
    pub(super) per_second: f64,
    /// `1 min 05 s`
    pub(super) left: &'a str,
}

/// The cells of a bar.
const BAR: usize = 24;

impl Progress<'_> {
    pub(super) fn line(&self, columns: usize) -> String {
        if self.of == 0 {
            return self.name.to_owned();
        }
        let count = format!("{}/{}", self.done, self.of);
        let left = format!("{} left", self.left);
        let rate = format!("{:.1}/s", self.per_second);
        let (whole, filled) = (BAR as u64, self.done.min(self.of) * BAR as u64 / self.of);
        let cells = |count: u64, cell: &str| cell.repeat(usize::try_from(count).unwrap_or(0));
        let bar = format!("{}{}", cells(filled, "█"), cells(whole - filled, "░"));
        let (name, words) = (self.name, self.words);
        let unit = words.split("  ").next().unwrap_or_default();
        if self.done == 0 {
            // Nobody knows yet how long it will take.
            let line = format!("{name}  {bar}  {count} {words}");
            let fits = console::measure_text_width(&line) <= columns;
            return if fits { line } else { format!("{name}  {count}") };
        }
        let choices = [
            format!("{name}  {bar}  {count} {words}  {rate}, {left}"),
            format!("{name}  {bar}  {count} {words}  {left}"),
            format!("{name}  {count} {words}  {left}"),
            format!("{name}  {count} {unit}  {left}"),
            format!("{name}  {count}  {left}"),
            format!("{name}  {count}"),
        ];
        let fits = |line: &&String| console::measure_text_width(line) <= columns;
        choices.iter().find(fits).cloned().unwrap_or(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_broken_between_words_and_left_whole_where_there_is_no_terminal() {
        let line =
            "dpo  policy.dpo  would run  because of beta 0.1 → 0.3, learning_rate 0.001 → 0.0001";
        assert_eq!(fitted(line, None), line);
        assert_eq!(fitted(line, Some(200)), line);
        for columns in 40..90 {
            let found = fitted(line, Some(columns));
            assert!(found.lines().all(|it| it.chars().count() <= columns), "{found}");
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(words(&found), words(line));
        }
        let whole = "x".repeat(99);
        assert_eq!(fitted(&whole, Some(40)), whole);
        // Colours take no room.
        let painted = format!("\u{1b}[2m{}\u{1b}[0m", "word ".repeat(7).trim());
        assert_eq!(fitted(&painted, Some(40)), painted);
    }

    #[test]
    fn a_stage_under_way_says_as_much_as_fits() {
        let progress = Progress {
            name: "reward_model",
            done: 120,
            of: 1000,
            words: "steps  loss 0.6931",
            per_second: 12.34,
            left: "1 min 11 s",
        };
        let lines: Vec<_> = [120, 84, 70, 52, 40, 22].map(|it| progress.line(it)).into();
        insta::assert_snapshot!(lines.join("\n"), @"
        reward_model  ██░░░░░░░░░░░░░░░░░░░░░░  120/1000 steps  loss 0.6931  12.3/s, 1 min 11 s left
        reward_model  ██░░░░░░░░░░░░░░░░░░░░░░  120/1000 steps  loss 0.6931  1 min 11 s left
        reward_model  120/1000 steps  loss 0.6931  1 min 11 s left
        reward_model  120/1000 steps  1 min 11 s left
        reward_model  120/1000  1 min 11 s left
        reward_model  120/1000
        ");
        for columns in 21..160 {
            assert!(progress.line(columns).chars().count() <= columns, "{columns}");
        }
    }
}

//! A run as it happens: bars on a terminal, lines elsewhere, JSON for programs.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gradus_engine::{
    event::{Cause, Event, Outcome, Why},
    plan::Plan,
};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::{
    figures::in_one_line,
    paint::{Paint, duration, harmless, pad},
    screen::Terminal,
    streams::{complain, print},
    width::{Progress, fitted, of_stderr},
};

/// At most this many numbers behind a finished stage.
const SHOWN: usize = 4;

pub(crate) struct Live {
    json: bool,
    paint: Paint,
    bars: MultiProgress,
    running: HashMap<String, Running>,
    width: usize,
    /// What is yet to be printed, so that a burst of lines is one write.
    unsaid: RefCell<String>,
}

/// A stage under way.
struct Running {
    bar: ProgressBar,
    /// What is counted, and the newest figure.
    words: Arc<Mutex<String>>,
}

impl Terminal {
    /// Stages that cannot use what they are given, before anything ran.
    pub(crate) fn unusable(&self, plan: &Plan, wrong: &[(usize, String)]) {
        let mut live = self.live();
        for (index, message) in wrong {
            let (stage, message) = (plan.stages[*index].id.clone(), message.clone());
            live.take(&Event::Failed { stage, message, log: Vec::new() });
        }
        if !self.json {
            live.say("nothing ran: `--keep-going` runs what can be");
        }
        live.flush();
    }

    pub(crate) fn live(&self) -> Live {
        Live::new(self.json, self.err)
    }
}

impl Live {
    fn new(json: bool, paint: Paint) -> Self {
        let target = if json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bars = MultiProgress::with_draw_target(target);
        Self { json, paint, bars, running: HashMap::new(), width: 0, unsaid: RefCell::default() }
    }

    pub(crate) fn note(&self, words: &str) {
        if !self.json {
            self.say(&self.paint.yellow(words));
        }
    }

    pub(crate) fn take(&mut self, event: &Event) {
        if self.json {
            *self.unsaid.get_mut() += &serde_json::to_string(event).unwrap_or_default();
            self.unsaid.get_mut().push('\n');
            return;
        }
        match event {
            Event::RunStarted { stages, .. } => {
                self.width = stages.iter().map(|it| it.stage.chars().count()).max().unwrap_or(0);
            }
            Event::Cached { stage, metrics, advice, remote, .. } => {
                let mark = self.paint.dim("=");
                let word = if *remote { "fetched" } else { "cached" };
                let word = pad(word, 8);
                self.say(&format!(
                    "{mark} {}  {}",
                    self.padded(stage),
                    self.paint.dim(&format!("{word}  {}", in_one_line(metrics, SHOWN)))
                ));
                self.advise(advice);
            }
            Event::Waiting { stage, run, host, pid, since } => {
                let who = format!("run {run} (process {pid} on {host})");
                let words = format!("waits for {who}, at the same work since {since}");
                let line = format!("… {}  {words}", self.padded(stage));
                self.say(&self.paint.dim(&harmless(&line)));
            }
            Event::Started { stage, why, device, .. } => self.started(stage, why, device),
            Event::Progress { stage, done, total, unit, note } => {
                if let Some(Running { bar, words }) = self.running.get(stage) {
                    let said = harmless(&format!("{unit}  {note}"));
                    said.trim_end()
                        .clone_into(&mut words.lock().unwrap_or_else(PoisonError::into_inner));
                    bar.set_length(*total);
                    bar.set_position(*done);
                }
            }
            Event::Finished { stage, metrics, advice, seconds, .. } => {
                self.ended(stage);
                let mark = self.paint.green("✓");
                let took = pad(&duration(*seconds), 8);
                self.say(&format!(
                    "{mark} {}  {took}  {}",
                    self.padded(stage),
                    in_one_line(metrics, SHOWN)
                ));
                self.advise(advice);
            }
            Event::Failed { stage, message, log } => self.failed(stage, message, log),
            Event::Retried { stage, failures, tries, message, log, seconds } => {
                self.ended(stage);
                let words = format!("try {failures} of {tries} failed: {}", harmless(message));
                let again = format!("; again in {}", duration(*seconds));
                let mark = self.paint.yellow("↻");
                self.say(&format!("{mark} {}  {words}{again}", self.padded(stage)));
                self.end_of_log(log);
            }
            Event::Skipped { stage, because } => {
                self.ended(stage);
                self.say(&format!(
                    "{} {}  skipped: {because}",
                    self.paint.yellow("-"),
                    self.padded(stage)
                ));
            }
            Event::Note { stage: Some(stage), message } => {
                self.note(&format!("  {}  {}", self.padded(stage), harmless(message)));
            }
            Event::Note { stage: None, message } => self.note(message),
            Event::Metric { .. } => {}
            Event::RunFinished { outcome, ran, cached, failed, skipped, seconds, .. } => {
                let word = match outcome {
                    Outcome::Done => self.paint.green("done"),
                    Outcome::Failed | Outcome::Broken => self.paint.red("failed"),
                    Outcome::Cancelled => self.paint.yellow("stopped"),
                };
                let mut counts = vec![format!("{ran} ran"), format!("{cached} cached")];
                for (count, word) in [(failed, "failed"), (skipped, "skipped")] {
                    if *count > 0 {
                        counts.push(format!("{count} {word}"));
                    }
                }
                self.say(&format!("{word} in {}: {}", duration(*seconds), counts.join(", ")));
            }
        }
    }

    /// What a kind says to a stage's numbers, below them.
    fn advise(&mut self, advice: &[String]) {
        for words in advice {
            let mark = self.paint.yellow("!");
            self.say(&format!("  {mark} {}", harmless(words)));
        }
    }

    fn started(&mut self, stage: &str, why: &Why, device: &str) {
        // A new stage needs no reason to run.
        let why = Some(why).filter(|why| why.cause != Cause::NeverRan);
        if self.bars.is_hidden() {
            let why =
                why.map_or_else(String::new, |why| format!("  {}", harmless(&why.to_string())));
            self.say(&format!("> {}  on {device}{why}", self.padded(stage)));
            return;
        }
        if let Some(why) = why {
            let why = format!("  {} runs: {}", self.padded(stage), harmless(&why.to_string()));
            self.say(&self.paint.dim(&why));
        }
        let words = Arc::new(Mutex::new(String::new()));
        let style = bar_style(self.padded(stage), Arc::clone(&words));
        let bar = self.bars.add(ProgressBar::new(0).with_style(style));
        bar.enable_steady_tick(Duration::from_millis(120));
        self.running.insert(stage.to_owned(), Running { bar, words });
    }

    fn failed(&mut self, stage: &str, message: &str, log: &[String]) {
        self.ended(stage);
        self.say(&format!("{} {}  {}", self.paint.red("✗"), self.padded(stage), harmless(message)));
        self.end_of_log(log);
    }

    fn end_of_log(&self, log: &[String]) {
        if !log.is_empty() {
            self.say(&self.paint.dim("    the last lines of its log:"));
            for line in log {
                self.say(&self.paint.dim(&format!("    {}", harmless(line))));
            }
        }
    }

    fn ended(&mut self, stage: &str) {
        if let Some(running) = self.running.remove(stage) {
            running.bar.finish_and_clear();
        }
    }

    fn padded(&self, stage: &str) -> String {
        pad(stage, self.width)
    }

    /// A line above the bars. Where there are none, plainly to stderr with the next [`Live::flush`].
    fn say(&self, line: &str) {
        let line = line.trim_end();
        if self.bars.is_hidden() || self.bars.println(fitted(line, of_stderr())).is_err() {
            self.unsaid.borrow_mut().extend([line, "\n"]);
        }
    }

    /// Prints what was taken in.
    pub(crate) fn flush(&self) {
        let lines = self.unsaid.take();
        if lines.is_empty() {
        } else if self.json {
            print(&lines);
        } else {
            complain(&lines);
        }
    }
}

/// A spinner and a line that fits the terminal as it is now.
fn bar_style(name: String, words: Arc<Mutex<String>>) -> ProgressStyle {
    let line = move |state: &ProgressState, to: &mut dyn std::fmt::Write| {
        let words = words.lock().unwrap_or_else(PoisonError::into_inner);
        let left = duration(state.eta().as_secs_f64());
        let progress = Progress {
            name: &name,
            done: state.pos(),
            of: state.len().unwrap_or(0),
            words: &words,
            per_second: state.per_sec(),
            left: &left,
        };
        // Less the spinner; and the last column, beyond which a cursor goes to the next line.
        let columns = of_stderr().unwrap_or(80).saturating_sub(3);
        let _ = write!(to, "{}", progress.line(columns));
    };
    let style = ProgressStyle::with_template("{spinner} {line}");
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("line", line)
}

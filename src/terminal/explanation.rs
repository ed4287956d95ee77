//! What a stage's result depends on, and how it was made.

use gradus_engine::{
    plan::{Group, Pair, Row, Stage},
    run::{Explanation, Made, State, local_time},
};
use serde_json::{Value, json};

use super::{
    paint::{duration, harmless, pad},
    screen::Terminal,
};

impl Terminal {
    /// A stage's table, now and the last time.
    pub(crate) fn explanation(&self, stage: &Stage, found: &Explanation) {
        if self.json {
            return self.value(&as_json(stage, found));
        }
        let (word, rest) = match &found.state {
            State::Cached => (self.out.green("cached"), String::new()),
            State::Remote => (self.out.green("remote"), String::new()),
            State::WouldRun(why) => (self.out.yellow("would run"), harmless(&why.to_string())),
            State::Unknown => {
                let waits = found.waits_for.join("`, `");
                ("unknown".to_owned(), format!("until `{waits}` has run"))
            }
        };
        let head = format!("{}  {}", self.out.bold(&stage.id), self.out.dim(&stage.kind.kind));
        self.line(format!("{head}  {word}  {rest}").trim_end());
        let unknown = || "not known yet".to_owned();
        let now = found.fingerprint.map_or_else(unknown, |it| it.to_string());
        self.line(&format!("fingerprint  {now}"));
        if let Some(last) = found.last.filter(|last| Some(*last) != found.fingerprint) {
            self.line(&format!("  last time  {last}"));
        }
        if let Some(made) = &found.made {
            self.line(&format!("made         {}", made_in_words(made)));
        }
        self.line("");
        self.pairs(&found.rows, found.last.is_some(), &found.waits_for);
        for words in &found.not_in_key {
            self.line(&self.out.dim(&format!("not in the key: {}", harmless(words))));
        }
    }

    fn pairs(&self, pairs: &[Pair], with_last: bool, waits_for: &[String]) {
        let side = |row: &Option<Row>, words: String| match row {
            Some(row) => row.origin.as_ref().map_or(words.clone(), |it| format!("{words}  {it}")),
            None if waits_for.is_empty() => "absent".to_owned(),
            None => "not known yet".to_owned(),
        };
        let rows: Vec<_> = pairs
            .iter()
            .map(|pair| {
                let (before, now) = pair.sides();
                let (before, now) = (side(&pair.before, before), side(&pair.now, now));
                (name(pair), harmless(&now), harmless(&before), with_last && pair.differs())
            })
            .collect();
        let names = rows.iter().map(|it| it.0.chars().count()).max().unwrap_or(0);
        let nows = rows.iter().map(|it| it.1.chars().count()).max().unwrap_or(0).max(3);
        if with_last {
            let titles = format!("  {}  {}  last time", pad("", names), pad("now", nows));
            self.line(&self.out.dim(&titles));
        }
        for (name, now, before, differs) in &rows {
            let before = if with_last { before.as_str() } else { "" };
            let mark = if *differs { "*" } else { " " };
            let line = format!("{mark} {}  {}  {before}", pad(name, names), pad(now, nows));
            let line = line.trim_end();
            self.line(&if *differs { self.out.yellow(line) } else { line.to_owned() });
        }
    }
}

fn name(pair: &Pair) -> String {
    pair.either().map_or_else(String::new, |row| match row.group {
        Group::File => format!("file {}", row.name),
        Group::Input => format!("input {}", row.name),
        Group::Program => format!("program {}", row.name),
        _ => row.name.clone(),
    })
}

/// When, where and by what an action was made.
pub(super) fn made_in_words(made: &Made) -> String {
    let mut words = format!(
        "{} by run {} of {}, as {}, in {} on {}, by gradus {}",
        local_time(made.started),
        made.run,
        made.pipeline,
        made.stage,
        duration(made.seconds),
        made.device,
        made.gradus,
    );
    if let Some(libtorch) = &made.libtorch {
        words.extend([", libtorch ", libtorch]);
    }
    if let Some(git) = &made.git {
        words.extend([", at commit ", git.commit.get(..10).unwrap_or(&git.commit)]);
        words += if git.dirty { " with changes" } else { "" };
    }
    harmless(&words)
}

/// The same for programs. Metrics and facts stand elsewhere.
pub(super) fn made_as_json(made: &Made) -> Value {
    json!({
        "run": made.run, "pipeline": made.pipeline, "stage": made.stage, "started": made.started,
        "seconds": made.seconds, "device": made.device, "gradus": made.gradus,
        "libtorch": made.libtorch, "git": made.git,
    })
}

fn as_json(stage: &Stage, found: &Explanation) -> Value {
    let (word, why) = match &found.state {
        State::Cached => ("cached", None),
        State::Remote => ("remote", None),
        State::WouldRun(why) => ("would_run", Some(why)),
        State::Unknown => ("unknown", None),
    };
    let rows = found.rows.iter().map(|pair| {
        let row = pair.either();
        json!({
            "group": row.map(|it| it.group), "name": row.map(|it| &it.name),
            "now": pair.now.as_ref().map(side_as_json),
            "last": pair.before.as_ref().map(side_as_json),
            "differs": found.last.is_some() && pair.differs(),
        })
    });
    json!({
        "stage": stage.id, "kind": stage.kind.kind, "state": word,
        "cause": why.map(|why| why.cause), "reasons": why.map_or(&[][..], |why| &why.reasons),
        "goes_on_from": why.and_then(|why| why.goes_on_from),
        "reached": why.and_then(|why| why.reached.as_ref()),
        "keeps_rows": why.is_some_and(|why| why.keeps_rows),
        "waits_for": found.waits_for, "fingerprint": found.fingerprint, "last": found.last,
        "not_in_key": found.not_in_key,
        "made": found.made.as_ref().map(made_as_json),
        "rows": rows.collect::<Vec<_>>(),
    })
}

fn side_as_json(row: &Row) -> Value {
    json!({ "value": row.value, "from": row.origin })
}

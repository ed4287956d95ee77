//! SIGKILL at random instants, to the engine, its worker, or both: nothing that finished is lost or run
//! again, nothing half-written is believed, and the bytes are those of a run that nobody disturbed.
#![allow(clippy::print_stdout, reason = "what a test came upon is of interest")]

use std::{
    collections::HashSet,
    env, fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{Project, outputs, project, project_of, run};

/// The quickstart in small: a second or two, with training that keeps its state at every second step.
const MINIATURE: &str = "
    name: miniature
    stages:
      rows: { kind: data.synthetic, with: { task: reviews, text: 200, demonstrations: 120, preferences: 120 } }
      tokenizer: { kind: data.tokenizer, inputs: { rows: rows.text } }
      init:
        kind: model.init
        inputs: { tokenizer: tokenizer }
        with: { hidden_size: 32, layers: 2, heads: 2, context_length: 128 }
      base:
        kind: train.pretrain
        inputs: { model: init, text: rows.text }
        with: { learning_rate: 3e-3, batch: 2, epochs: 2 }
      sft:
        kind: train.sft
        inputs: { model: base, completions: rows.demonstrations }
        with: { learning_rate: 1e-3, batch: 8, epochs: 2 }
      reward_model:
        kind: feedback.reward_model
        inputs: { model: sft, preferences: rows.preferences_train }
        with: { learning_rate: 5e-4, batch: 8 }
      dpo:
        kind: policy.dpo
        inputs: { policy: sft, preferences: rows.preferences_train }
        with: { learning_rate: 2e-4, batch: 8 }
";

/// Instants to kill at; `GRADUS_KILLS` asks for others.
fn kills(usually: usize) -> usize {
    env::var("GRADUS_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(usually)
}

fn miniature() -> Option<Project> {
    let project = project_of(MINIATURE)?;
    project.write("gradus.toml", "[checkpoint]\nevery_steps = 2\n");
    Some(project)
}

/// A small generator of its own, so that a failure can be repeated (Marsaglia 2003, xorshift).
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn children(process: u32) -> Vec<u32> {
    let path = format!("/proc/{process}/task");
    let tasks = fs::read_dir(path).into_iter().flatten().flatten();
    let of_task = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).ok();
    let words: Vec<String> = tasks.filter_map(of_task).collect();
    words.iter().flat_map(|line| line.split_whitespace()).filter_map(|id| id.parse().ok()).collect()
}

fn kill(processes: &[u32]) {
    let ids: Vec<String> = processes.iter().map(u32::to_string).collect();
    if !ids.is_empty() {
        // One that is gone already is no failure.
        let _ = Command::new("kill").arg("-9").args(&ids).status();
    }
}

/// What all runs of the project told, the oldest run first.
fn told(project: &Project) -> Vec<Vec<Value>> {
    let mut files = project.files_below(".gradus/runs");
    files.retain(|path| path.ends_with("events.jsonl"));
    files.sort_by_key(|path| fs::metadata(path).unwrap().created().unwrap());
    let events =
        |text: String| text.lines().filter_map(|it| serde_json::from_str(it).ok()).collect();
    files.iter().map(|path| events(fs::read_to_string(path).unwrap())).collect()
}

/// A stage that one run finished is not begun by a later one.
fn assert_nothing_ran_twice(project: &Project) {
    let mut finished = HashSet::new();
    for events in told(project) {
        let of = |name: &'static str| {
            let named = events.iter().filter(move |it| it["event"] == name);
            named.filter_map(|it| it["stage"].as_str().map(str::to_owned))
        };
        for stage in of("started") {
            assert!(!finished.contains(&stage), "`{stage}` ran again");
        }
        finished.extend(of("finished"));
    }
}

/// Kills runs at `kills` instants, at most `longest` after they began, in one project after the other until each
/// is done; every one must end in what `undisturbed` gives.
fn assert_kills_change_nothing(fresh: impl Fn() -> Project, kills: usize, longest: Duration) {
    let undisturbed = fresh();
    let began = Instant::now();
    let expected = outputs(&run(&undisturbed, &[]));
    // On a busy machine everything takes longer, also to get to where a kill hurts.
    let whole = began.elapsed();
    let within = u64::try_from(longest.min(whole / 2).as_millis()).unwrap();
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
    let (mut killed, mut resumed) = (0, 0);
    while killed < kills {
        let project = fresh();
        while killed < kills {
            let running = project.start(&["run", "p.yaml", "--format", "json"]);
            let instant = Instant::now() + Duration::from_millis(draw.below(within));
            // Every third kill waits until there is a state to go on from.
            let state = || !project.files_below(".gradus/checkpoints").is_empty();
            let patience = Instant::now() + whole;
            while Instant::now() < instant
                || (killed % 3 == 0 && !state() && Instant::now() < patience)
            {
                thread::sleep(Duration::from_millis(1));
            }
            let (engine, workers) = (running.id(), children(running.id()));
            match draw.below(3) {
                0 => kill(&[engine]),
                1 => kill(&workers),
                _ => kill(&[&[engine], workers.as_slice()].concat()),
            }
            let ran = running.wait();
            killed += 1;
            if ran.code == Some(0) {
                break;
            }
        }
        let last = run(&project, &[]);
        assert_eq!(outputs(&last), expected, "after {killed} kills");
        assert_nothing_ran_twice(&project);
        let notes = told(&project).concat();
        resumed += notes.iter().filter(|it| it["event"] == "note").count();
        assert!(project.files_below(".gradus/checkpoints").is_empty());
    }
    println!("{killed} kills, {resumed} times a training went on from a checkpoint");
    assert!(resumed > 0, "no training went on from a checkpoint: the test has no point");
}

#[test]
fn kills_at_random_instants_lose_no_finished_work_and_change_no_byte() {
    if miniature().is_some() {
        assert_kills_change_nothing(|| miniature().unwrap(), kills(30), Duration::MAX);
    }
}

#[test]
#[ignore = "takes a quarter of an hour"]
fn a_hundred_kills_of_the_quickstart_change_no_byte() {
    let quickstart = || {
        let project = project("quickstart")?;
        project.write("gradus.toml", "[checkpoint]\nevery_steps = 10\n");
        Some(project)
    };
    if quickstart().is_some() {
        assert_kills_change_nothing(|| quickstart().unwrap(), kills(100), Duration::from_secs(8));
    }
}

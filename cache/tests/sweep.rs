//! What a sweep takes and what it leaves.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use gradus_cache::{Action, Cache, Claim, Fingerprint, Limits, Swept};
use serde_json::json;
use tempfile::TempDir;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const NONE: Limits = Limits { unused_for: None, keep_bytes: None, grace: HOUR };

fn fresh() -> (TempDir, Cache) {
    let root = tempfile::tempdir().unwrap();
    let cache = Cache::open(root.path()).unwrap();
    (root, cache)
}

fn key(name: &str) -> Fingerprint {
    Fingerprint::of(name.as_bytes())
}

/// Commits a folder with one file; the same content is the same blob.
fn commit(cache: &Cache, name: &str, content: &str) -> Action {
    let attempt = cache.attempt().unwrap();
    let folder = attempt.path().join("out");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), content).unwrap();
    let staged = BTreeMap::from([("out".to_owned(), folder)]);
    cache.commit(&key(name), &staged, &json!(null)).unwrap()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().collect();
    let below = entries.into_iter().map(|entry| entry.path());
    below.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

fn blobs(cache: &Cache) -> usize {
    files_below(&cache.root().join("blobs")).len()
}

fn date(path: &Path, ago: Duration) {
    // Opened for reading: the owner may set the times of what it must not write.
    File::open(path).unwrap().set_modified(SystemTime::now() - ago).unwrap();
}

/// Makes everything in the store look as if nobody had used it for so long.
fn age(cache: &Cache, ago: Duration) {
    for folder in ["blobs", "actions", "checkpoints"] {
        for path in files_below(&cache.root().join(folder)) {
            date(&path, ago);
        }
    }
}

fn has(cache: &Cache, name: &str) -> bool {
    cache.recall(&key(name)).unwrap().is_some()
}

/// Sweeps dry, then in earnest, and holds the second to what the first said.
fn sweep(cache: &Cache, limits: &Limits, roots: &[&str]) -> Swept {
    let roots: BTreeSet<_> = roots.iter().map(|name| key(name)).collect();
    let before = files_below(cache.root()).len();
    let would = cache.sweep(limits, &roots, false).unwrap();
    assert_eq!(files_below(cache.root()).len(), before, "a dry run deleted something");
    let swept = cache.sweep(limits, &roots, true).unwrap();
    assert_eq!(swept, would);
    swept
}

#[test]
fn without_limits_only_what_no_result_reaches_goes() {
    let (_root, cache) = fresh();
    commit(&cache, "a", "one");
    let lost = commit(&cache, "b", "two");
    let digest = lost.outputs["out"].digest.to_string();
    let actions = files_below(&cache.root().join("actions")).into_iter();
    let mut of_lost = actions.filter(|path| fs::read_to_string(path).unwrap().contains(&digest));
    fs::remove_file(of_lost.next().unwrap()).unwrap();
    age(&cache, 9 * DAY);
    let swept = sweep(&cache, &NONE, &[]);
    assert_eq!((swept.results.number, swept.objects.number, swept.kept.number), (0, 2, 2));
    assert!(has(&cache, "a"));
}

#[test]
fn what_was_unused_for_long_goes_and_what_was_recalled_stays() {
    let (_root, cache) = fresh();
    for name in ["used", "shared", "unused", "root"] {
        commit(&cache, name, if name == "shared" { "used" } else { name });
    }
    age(&cache, 9 * DAY);
    assert!(has(&cache, "used"));
    let swept = sweep(&cache, &Limits { unused_for: Some(8 * DAY), ..NONE }, &["root"]);
    assert_eq!((swept.results.number, swept.objects.number, swept.kept.number), (2, 2, 4));
    assert_eq!(
        ["used", "shared", "unused", "root"].map(|it| has(&cache, it)),
        [true, false, false, true]
    );
    age(&cache, 7 * DAY);
    assert_eq!(sweep(&cache, &Limits { unused_for: Some(8 * DAY), ..NONE }, &[]).bytes(), 0);
}

#[test]
fn for_a_size_the_longest_unused_goes_first() {
    let (_root, cache) = fresh();
    for (days, name) in [(1, "new"), (3, "old"), (2, "middle"), (4, "root")] {
        commit(&cache, name, &name.repeat(10_000));
        for path in files_below(&cache.root().join("actions")) {
            if fs::metadata(&path).unwrap().modified().unwrap().elapsed().unwrap() < HOUR {
                date(&path, DAY * days);
            }
        }
    }
    for path in files_below(&cache.root().join("blobs")) {
        date(&path, 9 * DAY);
    }
    let keep = |bytes| Limits { keep_bytes: Some(bytes), ..NONE };
    assert_eq!(sweep(&cache, &keep(1_000_000), &["root"]).bytes(), 0);
    let swept = sweep(&cache, &keep(140_000), &["root"]);
    assert_eq!(swept.results.number, 1);
    assert!(swept.kept.bytes <= 140_000, "{swept:?}");
    sweep(&cache, &keep(0), &["root"]);
    assert_eq!(
        ["new", "middle", "old", "root"].map(|it| has(&cache, it)),
        [false, false, false, true]
    );
}

#[test]
fn nothing_young_goes() {
    let (_root, cache) = fresh();
    commit(&cache, "a", "one");
    let all = Limits { unused_for: Some(Duration::ZERO), keep_bytes: Some(0), grace: HOUR };
    assert_eq!(sweep(&cache, &all, &[]).bytes(), 0);
    assert_eq!(sweep(&cache, &Limits { grace: Duration::ZERO, ..all }, &[]).objects.number, 2);
    assert_eq!(blobs(&cache), 0);
}

#[test]
fn what_is_committed_with_an_old_date_is_young() {
    let (_root, cache) = fresh();
    let attempt = cache.attempt().unwrap();
    let path = attempt.path().join("out");
    fs::write(&path, "copied with its times").unwrap();
    date(&path, 9 * DAY);
    let staged = BTreeMap::from([("out".to_owned(), path)]);
    cache.commit(&key("a"), &staged, &json!(null)).unwrap();
    date(&files_below(&cache.root().join("actions"))[0], 9 * DAY);
    sweep(&cache, &Limits { unused_for: Some(DAY), ..NONE }, &[]);
    assert_eq!(blobs(&cache), 1);
}

#[test]
fn attempts_of_the_dead_go_and_those_of_the_living_stay() {
    let (_root, cache) = fresh();
    let living = cache.attempt().unwrap();
    fs::write(living.path().join("half"), "hal").unwrap();
    let name = living.path().file_name().unwrap().to_str().unwrap().to_owned();
    let mut parts: Vec<_> = name.split('-').collect();
    parts[1] = "1";
    let attempts = cache.root().join("attempts");
    for name in [parts.join("-"), "of-elsewhere".to_owned()] {
        fs::create_dir(attempts.join(&name)).unwrap();
        fs::write(attempts.join(&name).join("half"), "half").unwrap();
    }
    assert_eq!(sweep(&cache, &NONE, &[]).attempts.bytes, 4);
    let elsewhere = attempts.join("of-elsewhere");
    for path in [elsewhere.join("half"), elsewhere] {
        date(&path, 2 * DAY);
    }
    assert_eq!(sweep(&cache, &NONE, &[]).attempts.number, 1);
    assert!(living.path().join("half").exists());
}

#[test]
fn states_take_of_the_size_that_is_to_stay_the_oldest_first() {
    let (_root, cache) = fresh();
    for (name, age) in [("older", 9 * DAY), ("newer", 8 * DAY)] {
        let folder = cache.checkpoints(&key(name));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("step-1"), "state").unwrap();
        date(&folder.join("step-1"), age);
        date(&folder, age);
    }
    let keep = |bytes| sweep(&cache, &Limits { keep_bytes: Some(bytes), ..NONE }, &[]);
    assert_eq!(keep(10).checkpoints.number, 0);
    assert_eq!(keep(9).checkpoints.number, 1);
    assert!(cache.checkpoints(&key("newer")).exists());
    assert!(!cache.checkpoints(&key("older")).exists());
}

#[test]
fn old_checkpoints_go_unless_their_stage_is_at_work() {
    let (_root, cache) = fresh();
    for name in ["left", "at work"] {
        let folder = cache.checkpoints(&key(name));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("step-1"), "state").unwrap();
        date(&folder.join("step-1"), 9 * DAY);
        date(&folder, 9 * DAY);
    }
    let claim = cache.claim(&key("at work"), "run", "stage").unwrap();
    assert!(matches!(claim, Claim::Held(_)));
    assert_eq!(sweep(&cache, &NONE, &[]).checkpoints.number, 0);
    let swept = sweep(&cache, &Limits { unused_for: Some(DAY), ..NONE }, &[]);
    assert_eq!(swept.checkpoints.bytes, 5);
    assert!(cache.checkpoints(&key("at work")).exists());
}

#[test]
fn what_is_kept_of_rows_goes_when_nobody_used_it_or_when_there_is_no_room() {
    let (_root, cache) = fresh();
    let shard = cache.ledger().join("ab");
    fs::create_dir_all(&shard).unwrap();
    for (name, age) in [("older", 9 * DAY), ("newer", 8 * DAY), ("young", Duration::ZERO)] {
        fs::write(shard.join(name), "12345").unwrap();
        date(&shard.join(name), age);
    }
    let limits = || Limits { grace: DAY, ..NONE };
    assert_eq!(sweep(&cache, &limits(), &[]).ledger.number, 0);
    let swept = sweep(&cache, &Limits { keep_bytes: Some(10), ..limits() }, &[]);
    assert_eq!((swept.ledger.number, swept.ledger.bytes), (1, 5));
    assert!(!shard.join("older").exists());
    let swept = sweep(&cache, &Limits { unused_for: Some(DAY), ..limits() }, &[]);
    assert_eq!((swept.ledger.number, swept.bytes()), (1, 5));
    assert!(shard.join("young").exists());
}

#[test]
fn a_sweep_in_a_loop_beside_commits_costs_no_more_than_misses() {
    let (_root, cache) = fresh();
    let done = AtomicBool::new(false);
    let all =
        Limits { unused_for: Some(Duration::ZERO), keep_bytes: Some(0), grace: Duration::ZERO };
    let hits = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                cache.sweep(&all, &BTreeSet::new(), true).unwrap();
            }
        });
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let cache = cache.clone();
                scope.spawn(move || {
                    let mut hits = 0;
                    for round in 0..50 {
                        let action =
                            commit(&cache, &format!("{worker}/{round}"), &format!("{}", round % 5));
                        let Some(found) = cache.recall(&action.fingerprint).unwrap() else {
                            continue;
                        };
                        assert_eq!(found, action);
                        hits += usize::from(cache.verify_fully(&action.outputs["out"]).unwrap());
                    }
                    hits
                })
            })
            .collect();
        let hits: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        done.store(true, Ordering::Relaxed);
        hits
    });
    assert!(hits <= 200);
    assert_eq!(files_below(&cache.root().join("quarantine")), [""; 0].map(PathBuf::from));
}

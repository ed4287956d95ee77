//! A cache whose disk is full, read-only or damaged: clear words, and never wrong bytes.

use std::{fs, path::PathBuf, process::Command};

use crate::support::{Project, Ran};

const PIPELINE: &str = "
    params: { word: one, kilobytes: 1 }
    stages:
      small:
        kind: exec
        outputs: { a: a }
        with: { shell: 'printf %s \"$WORD\" > a', env: { WORD: '${params.word}' } }
      big:
        kind: exec
        inputs: { a: small }
        outputs: { a: a }
        with: { shell: 'head -c \"${KILOBYTES}000\" /dev/zero > a', env: { KILOBYTES: '${params.kilobytes}' } }
";

/// A file system of eight megabytes where the project has its cache.
struct Disk(PathBuf);

impl Disk {
    /// `None`, with a word about it, where mounting is not allowed.
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    fn of(project: &Project) -> Option<Self> {
        let place = project.path(".gradus");
        fs::create_dir(&place).unwrap();
        if mount(&["-t", "tmpfs", "-o", "size=8m", "tmpfs", place.to_str().unwrap()]) {
            return Some(Self(place));
        }
        eprintln!("skipped: file systems cannot be mounted here");
        None
    }

    fn make_read_only(&self) {
        assert!(mount(&["-o", "remount,ro", self.0.to_str().unwrap()]));
    }

    /// Writes until nothing fits any more; deleting the file makes space.
    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let of = format!("of={}", filler.display());
        let dd = ["if=/dev/zero", "bs=4k", &of];
        assert!(!Command::new("dd").args(dd).output().unwrap().status.success());
        filler
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that ends a moment later does not keep it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str]) -> bool {
    Command::new("mount").args(arguments).output().is_ok_and(|it| it.status.success())
}

fn assert_says(ran: &Ran, words: &[&str]) {
    for word in words {
        assert!(ran.stderr.contains(word), "no `{word}`: {ran}");
    }
}

#[test]
fn a_stage_that_fills_the_disk_fails_and_leaves_nothing_half_written() {
    let project = Project::new(PIPELINE);
    let Some(_disk) = Disk::of(&project) else { return };
    let ran = project.gradus(&["run", "p.yaml", "--set", "kilobytes=20000"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    let place = format!("the disk of `{}` is full", project.path(".gradus").display());
    assert_says(&ran, &[&place, "gradus sweep", "--cache", "No space left"]);
    assert!(project.files_below(".gradus/attempts").is_empty());
    assert!(project.files_below(".gradus/leases").is_empty());
    assert_eq!(project.events(&["--set", "kilobytes=2000"]).ran(), ["big"]);
    assert_eq!(project.events(&["--set", "kilobytes=2000"]).ran(), [""; 0]);
}

#[test]
fn on_a_full_disk_what_is_cached_is_there_and_the_rest_is_refused() {
    let project = Project::new(PIPELINE);
    let Some(disk) = Disk::of(&project) else { return };
    assert_eq!(project.events(&[]).code, Some(0));
    let filler = disk.fill();
    assert_eq!(project.gradus(&["plan", "p.yaml"]).code, Some(0));
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    assert_says(&ran, &["0 ran, 2 cached"]);
    let ran = project.gradus(&["run", "p.yaml", "--set", "word=two"]);
    assert_eq!(ran.code, Some(2), "{ran}");
    assert_says(&ran, &["its disk is full", ".gradus/", "gradus sweep", "--cache"]);
    fs::remove_file(filler).unwrap();
    assert_eq!(project.events(&["--set", "word=two"]).ran(), ["big", "small"]);
    assert_eq!(project.events(&[]).ran(), [""; 0]);
    assert!(project.files_below(".gradus/quarantine").is_empty());
}

#[test]
fn from_a_read_only_cache_everything_cached_is_taken() {
    let project = Project::new(PIPELINE);
    let Some(disk) = Disk::of(&project) else { return };
    assert_eq!(project.events(&[]).code, Some(0));
    fs::remove_dir(project.path(".gradus/leases")).unwrap();
    disk.make_read_only();
    let plan = project.gradus(&["plan", "p.yaml", "--format", "json"]).json();
    assert_eq!(
        (&plan["stages"][0]["state"], &plan["stages"][1]["state"]),
        (&"cached".into(), &"cached".into())
    );
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    assert_says(&ran, &["0 ran, 2 cached", "this run leaves no record", "Read-only file system"]);
    assert_eq!(project.gradus(&["show", "p.yaml"]).code, Some(0));
    assert_eq!(project.gradus(&["export", "p.yaml", "small", "out"]).code, Some(0));
    assert_eq!(project.read("out/a"), "one");
    let ran = project.gradus(&["run", "p.yaml", "--set", "word=two"]);
    assert_eq!(ran.code, Some(2), "{ran}");
    assert_says(&ran, &["in a cache that is read-only", "`--cache`"]);
}

/// Flips one bit of a file that may be read-only.
fn flip(path: &PathBuf, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 1;
    // Another file of the same name, since the old one may be read-only.
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The kind of a file in the cache.
fn kind(project: &Project, path: &std::path::Path) -> String {
    let name = path.strip_prefix(project.path(".gradus")).unwrap();
    name.components().next().unwrap().as_os_str().to_str().unwrap().to_owned()
}

#[test]
fn a_flipped_bit_anywhere_gives_the_right_bytes_or_a_named_error() {
    let project = Project::new(
        "
        stages:
          first: { kind: exec, outputs: { a: a }, with: { shell: 'echo 1 > a' } }
          tree: { kind: exec, inputs: { a: first }, outputs: { f: f/ }, with: { shell: 'mkdir f; cp inputs/a f/x; echo 2 > f/y' } }
          last: { kind: exec, inputs: { f: tree }, outputs: { a: a }, with: { shell: 'cat inputs/f/* > a' } }
    ",
    );
    assert_eq!(project.events(&[]).code, Some(0));
    fs::rename(project.path(".gradus"), project.path("pristine")).unwrap();
    let mut kinds = std::collections::BTreeSet::new();
    for path in project.files_below("pristine") {
        let name = path.strip_prefix(project.path("pristine")).unwrap().to_owned();
        let length = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
        // Copies for people are nobody's input, and an empty file has no bit to flip.
        if name.starts_with("outputs") || length == 0 {
            continue;
        }
        for at in [0, length / 2] {
            let copy = Command::new("cp")
                .args(["-rp", "pristine", ".gradus"])
                .current_dir(project.path(""))
                .status();
            assert!(copy.unwrap().success());
            let path = project.path(".gradus").join(&name);
            flip(&path, at);
            let kind = kind(&project, &path);
            let ran = project.gradus(&["run", "p.yaml"]);
            if kind == "format" {
                assert_eq!(ran.code, Some(2), "{ran}");
                assert_says(&ran, &["not `gradus cache 1`", "`--cache`"]);
            } else {
                assert_eq!(ran.code, Some(0), "{name:?} at {at}: {ran}");
                let exported = project.gradus(&["export", "p.yaml", "last", "out"]);
                assert_eq!(exported.code, Some(0), "{name:?} at {at}: {exported}");
                assert_eq!(project.read("out/a"), "1\n2\n", "{name:?} at {at}");
                fs::remove_dir_all(project.path("out")).unwrap();
                let aside = project.files_below(".gradus/quarantine").len();
                let stored = kind == "blobs" || kind == "actions";
                assert_eq!(aside, usize::from(stored), "{name:?} at {at}: {ran}");
            }
            kinds.insert(kind);
            fs::remove_dir_all(project.path(".gradus")).unwrap();
        }
    }
    let all = ["CACHEDIR.TAG", "actions", "blobs", "format", "index", "runs"];
    assert_eq!(kinds.iter().collect::<Vec<_>>(), all.iter().collect::<Vec<_>>());
}

#[test]
fn without_any_one_of_its_folders_a_cache_still_gives_the_right_bytes() {
    let project = Project::new(PIPELINE);
    assert_eq!(project.events(&[]).code, Some(0));
    for folder in
        ["blobs", "actions", "index", "runs", "leases", "attempts", "quarantine", "outputs"]
    {
        fs::remove_dir_all(project.path(".gradus").join(folder)).unwrap();
        let events = project.events(&[]);
        assert_eq!(events.code, Some(0), "without {folder}");
        let lost = folder == "blobs" || folder == "actions";
        assert_eq!(events.ran().len(), if lost { 2 } else { 0 }, "without {folder}");
        assert_eq!(project.read(".gradus/outputs/p/big.a").len(), 1000);
    }
}

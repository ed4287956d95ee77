//! Secrets: a program gets them, and nothing that a run leaves behind holds them.

use std::{fs, process::Command};

use insta::assert_snapshot;

use crate::support::{Project, Ran};

const SECRET: &str = "hf_Zq81-geheim+token/0123456789";

/// The secret as it is and as base64 writes it, wherever it begins there.
fn forms() -> Vec<String> {
    let encoded = |before: &str| {
        let script = format!("printf %s '{before}{SECRET}~~' | base64 -w0");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        // Without what the neighbours share in.
        text[(before.len() * 8).div_ceil(6)..(before.len() + SECRET.len()) * 8 / 6].to_owned()
    };
    vec![SECRET.to_owned(), encoded(""), encoded("x"), encoded("xy")]
}

fn assert_nothing_of_it(project: &Project, runs: &[&Ran]) {
    let texts = runs.iter().flat_map(|ran| [ran.stdout.clone(), ran.stderr.clone()]);
    let mut places: Vec<_> = texts.map(|text| ("what was printed".to_owned(), text)).collect();
    for path in project.files_below("") {
        // Line breaks inside hide nothing.
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).replace(['\n', '\r'], "");
        places.push((path.display().to_string(), path.display().to_string() + &text));
    }
    assert!(places.iter().any(|(place, _)| place.contains("/logs/")));
    for (place, text) in places {
        for form in forms() {
            assert!(!text.contains(&form), "{form} in {place}: {text}");
        }
    }
}

fn project(pipeline: &str) -> Project {
    let mut project = Project::new(pipeline);
    project.set("HF_TOKEN", SECRET);
    project
}

#[test]
fn nothing_that_a_run_leaves_behind_holds_a_secret() {
    let project = project(
        "
        stages:
          says:
            kind: exec
            secret: HF_TOKEN
            outputs: { size: size }
            with:
              shell: |
                test -n \"$HF_TOKEN\"
                echo \"token: $HF_TOKEN\"
                echo \"token: $HF_TOKEN\" >&2
                printf 'Authorization: Basic '; printf %s \"user:$HF_TOKEN\" | base64
                for before in '' x xy; do printf %s \"$before$HF_TOKEN~~\" | base64 -w 30; done
                printf %s \"$HF_TOKEN\" | cut -c1-9 | tr -d '\\n'; sleep 0.1; printf %s \"$HF_TOKEN\" | cut -c10-
                printf %s \"$HF_TOKEN\" | wc -c > size
          fails: { kind: exec, secret: [HF_TOKEN], with: { shell: 'echo \"$HF_TOKEN\"; exit 1' } }
          file: { kind: exec, secret: HF_TOKEN, outputs: { a: a }, with: { shell: 'echo \"x $HF_TOKEN\" > a' } }
          name:
            kind: exec
            secret: HF_TOKEN
            outputs: { a: a/ }
            with: { shell: 'mkdir -p a; touch a/$(printf %s \"$HF_TOKEN\" | base64 -w0)' }
          reader: { kind: exec, inputs: { a: file }, with: { command: [cat, inputs/a] } }
          other: { kind: exec, outputs: { names: names }, with: { shell: 'env > names' } }
    ",
    );
    let plan = project.gradus(&["plan", "p.yaml"]);
    let text = project.gradus(&["run", "p.yaml", "--keep-going"]);
    let events = project.gradus(&["run", "p.yaml", "--keep-going", "--format", "json"]);
    let explained = project.gradus(&["explain", "p.yaml", "says"]);
    let log = project.gradus(&["logs", "p.yaml", "says"]);
    assert_eq!(log.stdout.matches("***").count(), 7, "{log}");
    assert_nothing_of_it(&project, &[&plan, &text, &events, &explained, &log]);
    assert!(text.stderr.contains("says"), "{text}");
    for (stage, words) in [
        ("file", "the output `a` holds the secret `HF_TOKEN`, and so is not kept"),
        ("name", "the output `a` holds the secret `HF_TOKEN`, and so is not kept"),
    ] {
        let line = text.stderr.lines().find(|line| line.starts_with(&format!("✗ {stage}")));
        assert!(line.unwrap().contains(words), "{text}");
    }
}

const TWO: &str = "
    stages:
      first: { kind: exec, outputs: { a: a }, with: { shell: 'echo x > a' } }
      token: { kind: exec, secret: HF_TOKEN, outputs: { a: a }, with: { shell: 'echo y > a' } }
      both: { kind: exec, secret: HF_TOKEN, inputs: { a: first, b: token }, with: { command: ['true'] } }
";

#[test]
fn a_secret_that_is_missing_ends_a_run_before_it_begins() {
    let project = Project::new(TWO);
    assert_snapshot!(project.gradus(&["run", "p.yaml"]));
    assert_eq!(project.events(&[]).stages("started"), [""; 0]);
    assert_eq!(project.events(&["--keep-going"]).ran(), ["first"]);
}

#[test]
fn a_stage_that_is_cached_needs_no_secret_and_another_secret_changes_nothing() {
    let mut with = project(TWO);
    assert_eq!(with.events(&[]).ran(), ["both", "first", "token"]);
    with.set("HF_TOKEN", "another-token");
    assert_eq!(with.events(&[]).cached(), ["both", "first", "token"]);
    with.set("HF_TOKEN", "");
    assert_eq!(with.events(&[]).cached(), ["both", "first", "token"]);
}

#[test]
fn a_secret_that_nobody_could_tell_from_other_words_is_refused() {
    let mut project = Project::new(TWO);
    project.set("HF_TOKEN", "abc");
    assert_eq!(
        project.events(&[]).failure("token"),
        "its secret `HF_TOKEN` has fewer than 8 characters, and could not be told from other words"
    );
}

#[test]
fn a_secret_that_stands_in_the_stage_itself_is_refused() {
    let project = project(
        "
        params: { token: '' }
        stages:
          a: { kind: exec, secret: HF_TOKEN, with: { command: [echo, '${params.token}'] } }
    ",
    );
    let events = project.events(&["--set", &format!("token={SECRET}")]);
    assert_eq!(
        events.failure("a"),
        "the secret `HF_TOKEN` stands in the stage, and would be kept: take it out of its parameters"
    );
}

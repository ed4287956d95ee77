//! Ctrl-C, at the shell or from whoever started gradus.

use insta::assert_snapshot;

use crate::support::Project;

#[test]
fn ctrl_c_stops_a_program_and_leaves_a_clean_state() {
    let mut project = Project::new(
        "
        stages:
          first: { kind: exec, outputs: { a: a }, with: { shell: 'echo x > a' } }
          slow:
            kind: exec
            inputs: { a: first }
            outputs: { a: a }
            with: { shell: 'echo half > a; echo $$ > \"$HOME/begun\"; sleep 60 & wait' }
          behind: { kind: exec, inputs: { a: slow }, with: { command: ['true'] } }
    ",
    );
    project.set("HOME", project.path("").to_str().unwrap());
    let mut run = project.start(&["run", "p.yaml", "--format", "json"]);
    run.wait_for(r#"{"event":"started","stage":"slow""#);
    run.signal("INT");
    let ran = run.wait();
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stdout.contains(r#""outcome":"cancelled""#), "{ran}");
    assert!(project.files_below(".gradus/attempts").is_empty());
    project.pipeline(&project.read("p.yaml").replace("sleep 60 & wait", "true"));
    assert_eq!(project.events(&[]).ran(), ["behind", "slow"]);
}

#[test]
fn a_program_is_asked_to_end_before_it_is_killed() {
    let mut project = Project::new(
        "
        stages:
          slow:
            kind: exec
            outputs: { a: a }
            with: { shell: 'trap \"echo tidy > $HOME/tidied; exit 3\" TERM; touch $HOME/begun; sleep 60 & wait' }
    ",
    );
    project.set("HOME", project.path("").to_str().unwrap());
    let run = project.start(&["run", "p.yaml", "--format", "json"]);
    while !project.path("begun").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    run.signal("INT");
    let ran = run.wait();
    assert!(ran.stdout.contains(r#""outcome":"cancelled""#), "{ran}");
    assert_eq!(project.read("tidied"), "tidy\n");
}

#[test]
fn ctrl_c_is_told_to_people() {
    let project = Project::new(
        "
        stages:
          slow: { kind: exec, outputs: { a: a }, with: { shell: 'sleep 60' } }
          behind: { kind: exec, inputs: { a: slow }, with: { command: ['true'] } }
    ",
    );
    let run = project.start(&["run", "p.yaml", "--slots", "1"]);
    // Text goes to stderr, which is read at the end only.
    while project.files_below(".gradus/runs").len() < 3 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    run.signal("INT");
    assert_snapshot!(run.wait());
}

const WAITING: &str = "
    stages:
      rows: { kind: data.synthetic, with: { task: reviews } }
      split: { kind: data.split, inputs: { rows: rows.prompts } }
";

#[test]
fn a_worker_is_asked_to_cancel() {
    let mut project = Project::new(WAITING);
    project.set("FAKE_WORKER", "data.split=wait");
    let mut run = project.start(&["run", "p.yaml", "--format", "json"]);
    run.wait_for("waits");
    run.signal("INT");
    let ran = run.wait();
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stdout.contains("the run was stopped"), "{ran}");
    assert!(project.gradus(&["logs", "p.yaml", "split"]).stdout.contains("cancelled as asked"));
    project.set("FAKE_WORKER", "");
    assert_eq!(project.events(&[]).ran(), ["split"]);
}

#[test]
fn a_worker_that_saves_its_state_is_waited_for() {
    let mut project = Project::new(WAITING);
    project.set("FAKE_WORKER", "data.split=save");
    let mut run = project.start(&["run", "p.yaml", "--format", "json"]);
    run.wait_for("waits");
    run.signal("INT");
    let ran = run.wait();
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stdout.contains("writes down where it stands"), "{ran}");
    assert!(project.gradus(&["logs", "p.yaml", "split"]).stdout.contains("cancelled as asked"));
}

#[test]
fn a_worker_that_hears_nothing_is_killed_at_the_second_ctrl_c() {
    let mut project = Project::new(WAITING);
    project.set("FAKE_WORKER", "data.split=deaf");
    let mut run = project.start(&["run", "p.yaml", "--format", "json"]);
    run.wait_for("hears nothing");
    let began = std::time::Instant::now();
    run.signal("INT");
    std::thread::sleep(std::time::Duration::from_millis(100));
    run.signal("INT");
    let ran = run.wait();
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(began.elapsed().as_secs() < 4, "it was waited for");
}

#[test]
fn a_termination_stops_the_run_too() {
    let mut project = Project::new(WAITING);
    project.set("FAKE_WORKER", "data.split=wait");
    let mut run = project.start(&["run", "p.yaml", "--format", "json"]);
    run.wait_for("waits");
    run.signal("TERM");
    assert_eq!(run.wait().code, Some(1));
}

#[test]
fn a_terminal_that_is_closed_stops_the_run_as_ctrl_c_does() {
    let mut project = Project::new(WAITING);
    project.set("FAKE_WORKER", "data.split=wait");
    let mut run = project.start(&["run", "p.yaml", "--format", "json"]);
    run.wait_for("waits");
    run.signal("HUP");
    assert_eq!(run.wait().code, Some(1));
    assert!(project.gradus(&["logs", "p.yaml", "split"]).stdout.contains("cancelled as asked"));
}

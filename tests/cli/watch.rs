//! `gradus watch`: a run after each saving.

use crate::support::Project;

const COPY: &str = "
    params: { word: one }
    stages:
      copy:
        kind: exec
        inputs: { text: data/text.txt }
        outputs: { text: text }
        with: { shell: 'cat inputs/text > text', env: { WORD: '${params.word}' } }
";

fn project() -> Project {
    let project = Project::new(COPY);
    project.write("data/text.txt", "a");
    project
}

#[test]
fn each_saving_is_followed_by_a_run_and_a_mistake_is_waited_out() {
    let project = project();
    project.write("more.yaml", "word: two");
    let watch = ["watch", "p.yaml", "--params", "more.yaml", "--format", "json"];
    let mut watch = project.start(&watch);
    watch.wait_for("run_finished");
    project.write("data/text.txt", "b");
    watch.wait_for("input text from data/text.txt");
    watch.wait_for("run_finished");
    project.write("more.yaml", "word: three");
    watch.wait_for("env.WORD");
    watch.wait_for("run_finished");
    project.pipeline(&COPY.replace("shell", "shel"));
    watch.wait_for("`exec` has no parameter `shel`");
    project.pipeline(&COPY.replace("cat inputs", "cat < inputs"));
    watch.wait_for("run.shell");
    watch.wait_for("run_finished");
    watch.signal("INT");
    let ran = watch.wait();
    assert_eq!(ran.code, Some(0), "{ran}");
    assert_eq!(ran.stdout.matches("run_started").count(), 4, "{ran}");
}

#[test]
fn a_file_that_was_missing_is_noticed_when_it_comes() {
    let project = Project::new(COPY);
    let mut watch = project.start(&["watch", "p.yaml", "--format", "json"]);
    watch.wait_for("there is no file `data/text.txt`");
    project.write("data/text.txt", "a");
    watch.wait_for("run_finished");
    watch.signal("TERM");
    assert_eq!(watch.wait().code, Some(0));
}

#[test]
fn a_stage_that_fails_does_not_end_the_watch() {
    let project = project();
    project.pipeline(&COPY.replace("cat inputs", "grep b inputs"));
    let mut watch = project.start(&["watch", "p.yaml", "--format", "json"]);
    watch.wait_for("\"outcome\":\"failed\"");
    project.write("data/text.txt", "b");
    watch.wait_for("\"outcome\":\"done\"");
    watch.signal("INT");
    assert_eq!(watch.wait().code, Some(0));
}

#[test]
fn ctrl_c_ends_a_run_under_way_and_the_watch() {
    let project = project();
    project.pipeline(&COPY.replace("cat inputs", "sleep 60; cat inputs"));
    let mut watch = project.start(&["watch", "p.yaml", "--format", "json"]);
    watch.wait_for("\"started\"");
    watch.signal("INT");
    let ran = watch.wait();
    assert_eq!(ran.code, Some(0), "{ran}");
    assert!(ran.stdout.contains("\"outcome\":\"cancelled\""), "{ran}");
}

//! What is shown of a run is that run's, whatever a person did meanwhile and whatever else lies on the cache.

use insta::assert_snapshot;

use crate::support::Project;

const SAID: &str = "
    params: { word: one }
    stages:
      said: { kind: exec, matrix: { lang: [中国, 日本, 'a b', a_b] }, outputs: { text: { path: text, type: report } }, with: { shell: 'echo \"$WORD of $LANGUAGE\" | tee text', env: { WORD: '${params.word}', LANGUAGE: '${matrix.lang}' } } }
";

#[test]
fn every_variant_has_its_own_copy_and_log_whatever_letters_it_has() {
    let project = Project::new(SAID);
    let ran = project.gradus(&["run", "p.yaml"]);
    for language in ["中国", "日本", "a b", "a_b"] {
        let words = format!("one of {language}\n");
        assert_eq!(ran.stdout.matches(&words).count(), 1, "{ran}");
        let log = project.gradus(&["logs", "p.yaml", &format!("said[lang={language}]")]);
        assert_eq!(log.stdout, words);
    }
    assert_eq!(project.read(".gradus/outputs/p/said[lang=中国].text.md"), "one of 中国\n");
}

#[test]
fn a_report_comes_from_the_cache_and_changed_copies_are_put_back() {
    let project = Project::new(
        "
        stages:
          said: { kind: exec, outputs: { text: { path: text, type: report }, all: all/ }, with: { shell: 'echo true > text; mkdir all; echo 1 > all/one; echo 2 > all/two' } }
    ",
    );
    project.gradus(&["run", "p.yaml"]);
    project.write(".gradus/outputs/p/said.text.md", "false\n");
    std::fs::remove_file(project.path(".gradus/outputs/p/said.all/two")).unwrap();
    let ran = project.gradus(&["run", "p.yaml"]);
    assert!(ran.stdout.contains("true\n") && !ran.stdout.contains("false"), "{ran}");
    let put_back: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("put back")).collect();
    assert_snapshot!(put_back.join("\n"), @"
    .gradus/outputs/p/said.text.md was not as it was made: put back
    .gradus/outputs/p/said.all was not as it was made: put back
    ");
    assert_eq!(project.read(".gradus/outputs/p/said.text.md"), "true\n");
    assert_eq!(project.read(".gradus/outputs/p/said.all/two"), "2\n");
}

#[test]
fn pipelines_of_one_name_are_told_apart_by_their_files() {
    let project = Project::new("stages: {}");
    project.write("gradus.toml", "");
    for folder in ["a", "b"] {
        let text = SAID.replace("    params", "name: same\nparams").replace("\n    ", "\n");
        project.write(
            &format!("{folder}/p.yaml"),
            text.replace("word: one", &format!("word: {folder}")),
        );
        let ran = project.gradus(&["run", &format!("{folder}/p.yaml")]);
        assert_eq!(ran.code, Some(0), "{ran}");
    }
    for folder in ["a", "b"] {
        let file = format!("{folder}/p.yaml");
        let shown = project.gradus(&["show", &file]);
        assert!(shown.stdout.contains(&format!("{folder} of 中国")), "{shown}");
        let runs = project.gradus(&["runs", &file, "--format", "json"]).json();
        assert_eq!(runs.as_array().unwrap().len(), 1);
        let said = format!("{folder} of 日本\n");
        assert_eq!(project.gradus(&["logs", &file, "said[lang=日本]"]).stdout, said);
        // Held against the last run of this very file.
        let plan = project.gradus(&["plan", &file, "--set", "word=c"]);
        assert!(plan.stdout.contains(&format!("\"{folder}\" → \"c\"")), "{plan}");
    }
    let copies = project.files_below(".gradus/outputs");
    let copies = copies.iter().filter(|path| path.extension().is_some_and(|it| it == "md"));
    assert_eq!(copies.count(), 8);
}

#[test]
fn the_last_run_is_the_last_wherever_it_was_started() {
    let mut project = Project::new(SAID);
    for (zone, word) in [("Asia/Tokyo", "first"), ("America/Los_Angeles", "second")] {
        project.set("TZ", zone);
        let word = format!("word={word}");
        assert_eq!(project.gradus(&["run", "p.yaml", "--set", &word]).code, Some(0));
    }
    let shown = project.gradus(&["logs", "p.yaml", "said[lang=a_b]"]);
    assert_eq!(shown.stdout, "second of a_b\n");
}

#[test]
fn a_run_goes_on_when_nobody_reads_what_it_complains() {
    let project = Project::new(SAID);
    let mut child = project.command(&["run", "p.yaml"]);
    let mut child = child
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn words_reach_a_program_as_they_are_typed() {
    let project = Project::new(
        "
        params: { sha: abc, version: 3.10, note: x }
        stages:
          s:
            kind: exec
            matrix: { rate: [1e-5] }
            outputs: { o: o }
            with:
              command: [sh, -c, 'echo $* $PY > o', sh, 3.10, 1e5, 0123, 0x1F, True, '${params.sha}', 'v${params.version}', '${params.note}', '${matrix.rate}', '${seed}']
              env: { PY: 3.10 }
    ",
    );
    let said = |set: &[&str]| {
        let mut arguments = vec!["run", "p.yaml"];
        arguments.extend(set.iter().flat_map(|set| ["--set", set]));
        assert_eq!(project.gradus(&arguments).code, Some(0));
        let copies = project.files_below(".gradus/outputs/p");
        let copy = copies.iter().find(|path| path.extension().is_some_and(|it| it == "o"));
        std::fs::read_to_string(copy.unwrap()).unwrap()
    };
    assert_eq!(said(&[]), "3.10 1e5 0123 0x1F True abc v3.10 x 1e-5 0 3.10\n");
    let set = ["sha=1234e56", "version=1.50", "note=hello #tag"];
    assert_eq!(said(&set), "3.10 1e5 0123 0x1F True 1234e56 v1.50 hello #tag 1e-5 0 3.10\n");
    assert_eq!(
        said(&["sha=00e1", "note=#1"]),
        "3.10 1e5 0123 0x1F True 00e1 v3.10 #1 1e-5 0 3.10\n"
    );
}

#[test]
fn a_whole_number_that_cannot_be_kept_is_refused_where_it_stands() {
    let project = Project::new("
        stages:
          s: { kind: exec, outputs: { o: o }, with: { command: [cp, 123456789012345678901234567890, o] } }
    ");
    insta::assert_snapshot!(project.gradus(&["check", "p.yaml"]).stderr);
}

#[test]
fn a_script_beside_the_pipeline_is_an_input_or_a_mistake() {
    let project = Project::new(
        "
        params: { script: sub/run.sh }
        stages:
          lost: { kind: exec, outputs: { o: o.txt }, with: { command: [sh, say.sh, sub/run.sh, o.txt, other.txt] } }
          more: { kind: exec, outputs: { o: o.txt }, with: { command: [./say.sh, '--script=sub/run.sh', '${params.script}', sub/, say.sh, say.sh, -v] } }
          data: { kind: exec, outputs: { o: o.txt }, with: { command: [sh, -c, 'echo $0 > o.txt', say.sh] } }
          kept: { kind: exec, inputs: { say: ./say.sh }, outputs: { o: o.txt }, with: { command: [sh, '${inputs.say}'] } }
    ",
    );
    project.write("say.sh", "echo hi > o.txt");
    project.write("sub/run.sh", "");
    project.write("o.txt", "");
    insta::assert_snapshot!(project.gradus(&["check", "p.yaml"]).stderr);
}

#[test]
fn a_stage_is_shown_by_the_newest_run_that_reached_it() {
    let project = Project::new(
        "
        params: { word: one }
        stages:
          first: { kind: exec, outputs: { o: o }, with: { shell: 'echo $W > o', env: { W: '${params.word}' } } }
          second: { kind: exec, inputs: { a: first }, outputs: { o: o }, with: { shell: 'cat inputs/a > o' } }
    ",
    );
    project.gradus(&["run", "p.yaml"]);
    project.gradus(&["run", "p.yaml", "first", "--set", "word=two"]);
    let shown = project.gradus(&["show", "p.yaml", "second", "first", "--format", "json"]).json();
    let runs = project.gradus(&["runs", "--format", "json"]).json();
    assert_eq!(shown[0]["run"], runs[1]["run"]);
    assert_eq!(shown[1]["run"], runs[0]["run"]);
    let missing = project.gradus(&["show", "p.yaml", "second", "--run", "last"]);
    assert!(missing.stderr.contains("has no stage `second`"), "{missing}");
}

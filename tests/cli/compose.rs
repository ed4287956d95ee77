//! Pipelines made of several files and of templates run as if they were written in one.

use insta::assert_snapshot;

use crate::support::Project;

const BASE: &str = "
params: { word: base, model: none, data: rows.txt }
templates:
  said:
    kind: exec
    required: [word]
    args: { mark: '!' , source: '${params.data}' }
    inputs: { rows: '${args.source}' }
    outputs: { text: { path: text, type: evaluation } }
    with: { shell: 'echo $WORD$MARK > text; cat inputs/rows >> text', env: { WORD: '${args.word}', MARK: '${args.mark}' } }
stages:
  make: { kind: exec, outputs: { text: text }, with: { shell: 'echo $WORD > text', env: { WORD: '${params.word}' } } }
  read:
    kind: exec
    inputs: { text: make, model: '${params.model}', rows: rows.txt }
    outputs: { all: all }
    with: { shell: 'cat inputs/* > all' }
";

const PIPELINE: &str = "
    params: { word: outer, marks: ['?', '#'] }
    include:
      base: { path: common/base.yaml, params: { word: '${params.word}', model: own } }
    stages:
      own: { kind: exec, outputs: { text: text }, with: { shell: 'echo own > text' } }
      said:
        template: base/said
        matrix: { mark: '${params.marks}' }
        args: { word: '${stage.name}', mark: '${matrix.mark}' }
      from:
        template: base/said
        args: { word: hello, source: base/make }
        with: { env: { MARK: , MARK: '.' } }
      all: { kind: evaluate.compare, inputs: { candidates: ['said[*]', from] } }
      end: { kind: exec, inputs: { a: base/read.all }, outputs: { a: a }, with: { shell: 'cp inputs/a a' } }
";

fn project() -> Project {
    let project = Project::new(&PIPELINE.replace("MARK: , ", ""));
    project.write("common/base.yaml", BASE);
    project.write("common/rows.txt", "rows of common\n");
    project.write("rows.txt", "rows of the pipeline\n");
    project
}

#[test]
fn names_mean_what_they_mean_in_the_file_that_they_are_written_in() {
    let project = project();
    assert_snapshot!(project.gradus(&["graph", "p.yaml"]));
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    let text = |output: &str| {
        let ran = project.gradus(&["export", "p.yaml", output, "out"]);
        assert_eq!(ran.code, Some(0), "{ran}");
        let file = project.files_below("out").pop().unwrap();
        let text = std::fs::read_to_string(file).unwrap();
        std::fs::remove_dir_all(project.path("out")).unwrap();
        text
    };
    assert_eq!(text("end"), "own\nrows of common\nouter\n");
    assert_eq!(text("said[mark=?]"), "said[mark=?]?\nrows of common\n");
    assert_eq!(text("from"), "hello.\nouter\n");
    assert_eq!(project.events(&["base/read"]).cached(), ["base/make", "base/read", "own"]);
    let log = project.gradus(&["logs", "p.yaml", "base/make"]);
    assert_eq!(log.code, Some(0), "{log}");
}

#[test]
fn how_a_pipeline_is_composed_changes_no_fingerprint() {
    let project = project();
    assert_eq!(project.gradus(&["run", "p.yaml"]).code, Some(0));
    // The same, written out.
    project.write(
        "common/one.yaml",
        "
stages:
  own: { kind: exec, outputs: { text: text }, with: { shell: 'echo own > text' } }
  make: { kind: exec, outputs: { text: text }, with: { shell: 'echo $WORD > text', env: { WORD: outer } } }
  read:
    kind: exec
    inputs: { text: make, model: own, rows: rows.txt }
    outputs: { all: all }
    with: { shell: 'cat inputs/* > all' }
  said:
    kind: exec
    matrix: { mark: ['?', '#'] }
    inputs: { rows: rows.txt }
    outputs: { text: { path: text, type: evaluation } }
    with: { shell: 'echo $WORD$MARK > text; cat inputs/rows >> text', env: { WORD: '${stage.name}', MARK: '${matrix.mark}' } }
  from:
    kind: exec
    inputs: { rows: make }
    outputs: { text: { path: text, type: evaluation } }
    env: { WORD: hello, MARK: '.' }
    with: { shell: 'echo $WORD$MARK > text; cat inputs/rows >> text' }
  all: { kind: evaluate.compare, inputs: { candidates: ['said[*]', from] } }
  end: { kind: exec, inputs: { a: read.all }, outputs: { a: a }, with: { shell: 'cp inputs/a a' } }
",
    );
    let ran = project.gradus(&["run", "common/one.yaml", "--format", "json"]);
    assert!(ran.stdout.contains(r#""ran":0,"cached":8"#), "{ran}");
    // And with everything one file deeper, also what shows the names of stages.
    project.pipeline("include: { deep: { path: common/one.yaml } }");
    let ran = project.events(&[]);
    assert_eq!((ran.code, ran.ran(), ran.cached().len()), (Some(0), vec![], 8));
}

#[test]
fn one_file_may_be_included_twice_with_other_parameters() {
    let project = Project::new(
        "
        include:
          one: { path: base.yaml, params: { word: one } }
          two: { path: base.yaml, params: { word: two } }
          three: base.yaml
        stages:
          all:
            kind: exec
            inputs: { a: one/make, b: two/make, c: three/make }
            outputs: { all: all }
            with: { shell: 'cat inputs/* > all' }
    ",
    );
    project.write(
        "base.yaml",
        "
params: { word: plain }
stages:
  make: { kind: exec, outputs: { text: text }, with: { shell: 'echo $WORD > text', env: { WORD: '${params.word}' } } }
",
    );
    assert_eq!(project.events(&[]).ran(), ["all", "one/make", "three/make", "two/make"]);
    project.gradus(&["export", "p.yaml", "all", "out"]);
    assert_eq!(project.read("out/all"), "one\ntwo\nplain\n");
    // What is left out or always runs is so in an included file, too; nothing else is known of it.
    assert_snapshot!(project.gradus(&["plan", "p.yaml"]));
}

const ARM: &str = "
params: { word: plain }
stages:
  make: { kind: exec, outputs: { text: text }, with: { shell: 'echo $WORD > text', env: { WORD: '${params.word}' } } }
  twice:
    kind: exec
    matrix: { times: [1, 2] }
    inputs: { text: make }
    outputs: { text: text }
    with: { shell: 'for i in $(seq $TIMES); do cat $INPUT_TEXT; done > text; echo $NAME $SEED >> text', env: { TIMES: '${matrix.times}', NAME: '${stage.name}', SEED: '${seed}' } }
  all:
    kind: exec
    inputs: { one: 'twice[times=1]', two: 'twice[times=2.0]' }
    outputs: { all: all }
    with: { shell: 'cat inputs/* > all' }
";

#[test]
fn a_matrix_on_an_include_has_every_stage_of_the_file_once_per_point() {
    let project = Project::new(
        "
        params: { seeds: [0, 1] }
        include:
          arm:
            path: arm.yaml
            matrix: { seed: '${params.seeds}', word: [hi, ho], exclude: [{ seed: 1, word: hi }] }
            params: { word: '${matrix.word} ${matrix.seed}' }
            seed: '${matrix.seed}'
        stages:
          one: { kind: exec, inputs: { a: 'arm/all[word=ho,seed=1.0]' }, outputs: { a: a }, with: { shell: 'cp inputs/a a' } }
    ",
    );
    project.write("arm.yaml", ARM);
    let ran = project.gradus(&["plan", "p.yaml"]);
    assert_snapshot!(ran);
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    project.gradus(&["export", "p.yaml", "one", "out"]);
    // Inside, a stage is called what it is called without the matrix around it.
    assert_eq!(project.read("out/a"), "ho 1\ntwice[times=1] 1\nho 1\nho 1\ntwice[times=2] 1\n");
    let events = project.events(&["arm/twice[times=2,word=ho]", "--force"]);
    assert_eq!(
        events.ran(),
        ["arm/twice[seed=0,word=ho,times=2]", "arm/twice[seed=1,word=ho,times=2]"]
    );
}

#[test]
fn includes_in_includes_multiply_and_a_file_sees_its_own_point_alone() {
    let project = Project::new(
        "
        include:
          outer: { path: outer.yaml, matrix: { seed: [0, 1] }, params: { word: 'w${matrix.seed}' } }
    ",
    );
    project.write(
        "outer.yaml",
        "
params: { word: plain }
include:
  inner: { path: arm.yaml, matrix: { n: [1, 2] }, params: { word: '${params.word}-${matrix.n}' } }
stages:
  both:
    kind: exec
    inputs: { one: 'inner/make[n=1]', two: 'inner/make[n=2]' }
    outputs: { both: both }
    with: { shell: 'cat inputs/* > both' }
",
    );
    project.write("arm.yaml", ARM);
    let ran = project.gradus(&["run", "p.yaml", "outer/both"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    for seed in [0, 1] {
        project.gradus(&["export", "p.yaml", &format!("outer/both[seed={seed}]"), "out"]);
        assert_eq!(project.read("out/both"), format!("w{seed}-1\nw{seed}-2\n"));
        std::fs::remove_dir_all(project.path("out")).unwrap();
    }
}

#[test]
fn a_matrix_on_an_include_that_cannot_be_is_shown_where_it_is() {
    let project = Project::new(
        "
        include:
          arm:
            path: arm.yaml
            matrix: { times: [1, 2], word: [] }
            params: { word: '${matrix.wrod}' }
          clash: { path: arm.yaml, matrix: { times: [1, 2] } }
          ok: { path: arm.yaml, matrix: { n: [1, 2] }, params: { word: '${matrix.m}' } }
        stages:
          one: { kind: exec, inputs: { a: ok/make }, outputs: { a: a }, with: { shell: 'cp inputs/a a' } }
          two: { kind: exec, inputs: { a: 'ok/make[n=3]' }, outputs: { a: a }, with: { shell: 'cp inputs/a a' } }
    ",
    );
    project.write("arm.yaml", ARM);
    assert_snapshot!(project.gradus(&["check", "p.yaml"]));
}

#[test]
fn an_included_files_environment_is_its_own() {
    let mut project = Project::new(
        "
        include: { base: base.yaml }
        stages:
          own: { kind: exec, with: { command: [echo, '${env.WORD}'] } }
    ",
    );
    project.write(
        "base.yaml",
        "env: [WORD]\nstages: { a: { kind: exec, with: { command: [echo, '${env.WORD}'] } } }",
    );
    project.set("WORD", "x");
    let ran = project.gradus(&["check", "p.yaml"]);
    assert!(ran.stderr.contains("declare the variable first: `env: [WORD]`"), "{ran}");
    assert_eq!(ran.stderr.matches("×").count(), 1, "{ran}");
}

#[test]
fn a_stage_wins_over_its_template_key_by_key() {
    let project = Project::new(
        "
        templates:
          t:
            kind: exec
            retries: 3
            when: false
            outputs: { a: a }
            env: { A: 1, B: 1 }
            matrix: { x: [1] }
            with: { shell: 'echo $A$B$C > a' }
        stages:
          one: { template: t, when: true, env: { B: 2, C: 3 }, matrix: { y: [7] } }
          two: { template: t, when: true, with: { shell: 'echo $B > a' } }
          three: { template: t }
    ",
    );
    assert_eq!(project.events(&[]).ran(), ["one[y=7]", "two[x=1]"]);
    project.gradus(&["export", "p.yaml", "one[y=7]", "out"]);
    assert_eq!(project.read("out/a"), "123\n");
}

#[test]
fn a_saved_file_that_is_included_is_noticed() {
    let project = Project::new("include: { base: base.yaml }");
    let base = "stages: { a: { kind: exec, outputs: { a: a }, with: { shell: 'echo one > a' } } }";
    project.write("base.yaml", base);
    let mut watch = project.start(&["watch", "p.yaml", "--format", "json"]);
    watch.wait_for("run_finished");
    std::thread::sleep(std::time::Duration::from_millis(500));
    project.write("base.yaml", base.replace("one", "other"));
    watch.wait_for(r#""event":"finished""#);
    watch.signal("INT");
    watch.wait();
}

#[test]
fn the_example_in_the_readme_is_sound() {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let project = Project::new("");
    for block in readme.split("```yaml\n# ").skip(1) {
        let (name, text) = block.split_once('\n').unwrap();
        project.write(name, text.split("```").next().unwrap());
    }
    project.write("base-model/config.json", "{}");
    project.write("pairs.jsonl", "");
    project.write("upload.py", "");
    let left_out = "✓ sweep.yaml: 4 stages, 1 left out\n";
    assert_eq!(project.gradus(&["check", "sweep.yaml"]).stdout, left_out);
    let all = "✓ sweep.yaml: 5 stages\n";
    assert_eq!(project.gradus(&["check", "sweep.yaml", "--set", "publish=true"]).stdout, all);
}

#[test]
fn a_parameter_of_an_included_file_is_set_behind_the_name_of_the_include() {
    let project = Project::new(
        "
        params: { word: outer }
        include: { lib: { path: lib.yaml, params: { word: '${params.word}' } } }
        stages:
          end: { kind: exec, inputs: { a: lib/deep/said }, outputs: { o: o }, with: { shell: 'cat inputs/a > o' } }
    ",
    );
    project.write("lib.yaml", "params: { word: x }\ninclude: { deep: { path: deep.yaml, params: { word: '${params.word}' } } }\nstages: {}\n");
    project.write("deep.yaml", "params: { word: y, more: { z: 1 } }\nstages:\n  said: { kind: exec, outputs: { o: o }, with: { shell: 'echo $W > o', env: { W: '${params.word} ${params.more.z}' } } }\n");
    let said = |set: &[&str]| {
        let mut words = vec!["run", "p.yaml"];
        words.extend(set.iter().flat_map(|set| ["--set", set]));
        let ran = project.gradus(&words);
        assert_eq!(ran.code, Some(0), "{ran}");
        project.read(".gradus/outputs/p/end.o")
    };
    assert_eq!(said(&[]), "outer 1\n");
    assert_eq!(said(&["lib.word=middle"]), "middle 1\n");
    assert_eq!(said(&["lib.deep.word=a: b", "lib.deep.more.z=2"]), "a: b 2\n");
    let ran = project.gradus(&["check", "p.yaml", "--set", "lib.deep.wrod=z"]);
    assert!(ran.stderr.contains("`params` has no key `lib.deep.wrod`"), "{ran}");
    assert!(ran.stderr.contains("did you mean `lib.deep.word`?"), "{ran}");
}

#[test]
fn a_template_may_build_on_another() {
    let project = Project::new(
        "
        include: { common: common.yaml }
        templates:
          last: { template: middle, required: [word], with: { env: { MORE: more } } }
          middle: { template: common/said, args: { mark: '?' , word: given }, inputs: { rows: rows.txt } }
        stages:
          one: { template: last, args: { word: first } }
          two: { template: middle, args: { mark: '-' }, with: { env: { MARK: '+${args.mark}' } } }
    ",
    );
    project.write("rows.txt", "rows\n");
    project.write(
        "common.yaml",
        "
templates:
  said:
    kind: exec
    required: [word]
    args: { mark: '!' }
    outputs: { text: text }
    with: { shell: 'echo $WORD$MARK$MORE > text; cat inputs/rows >> text', env: { WORD: '${args.word}', MARK: '${args.mark}' } }
",
    );
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    for (stage, text) in [("one", "first?more\nrows\n"), ("two", "given+-\nrows\n")] {
        project.gradus(&["export", "p.yaml", stage, stage]);
        assert_eq!(project.read(&format!("{stage}/text")), text);
    }
}

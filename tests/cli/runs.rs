//! `gradus runs` and `gradus diff`: the history, and two of its runs beside each other.

use std::fs;

use insta::{assert_json_snapshot, assert_snapshot};

use crate::support::Project;

const TWO: &str = "
    name: two
    params: { word: one }
    stages:
      make:
        kind: exec
        outputs: { text: text, log: log }
        with: { shell: 'printf %s \"$WORD\" > text; touch log', env: { WORD: '${params.word}' } }
      rows: { kind: data.synthetic, with: { task: reviews } }
      read: { kind: exec, inputs: { a: make, b: list.txt }, with: { shell: 'test ! -e inputs/no' } }
";

/// Three runs: all, one stage, and all again with other values and a failure.
fn three() -> Project {
    let mut project = Project::new(TWO);
    project.set("FAKE_WORKER", "data.synthetic=report");
    project.write("list.txt", "a");
    project.gradus(&["run", "p.yaml"]);
    project.gradus(&["run", "p.yaml", "make"]);
    project.write("list.txt", "b");
    let changed =
        TWO.replace("read: {", "more: { kind: exec, with: { shell: exit 1 } }\n      read: {");
    project.pipeline(&changed);
    project.gradus(&["run", "p.yaml", "--set", "word=two", "--keep-going"]);
    project
}

#[test]
fn runs_are_listed_the_newest_first() {
    let project = three();
    assert_snapshot!(project.gradus(&["runs"]));
    assert_snapshot!(project.gradus(&["runs", "p.yaml", "--limit", "1"]));
    assert_json_snapshot!(project.gradus(&["runs", "--format", "json", "--limit", "2"]).json());
}

#[test]
fn runs_of_other_pipelines_are_left_out_when_one_is_named() {
    let project = three();
    project.write("q.yaml", "stages: { a: { kind: exec, with: { shell: 'true' } } }");
    project.gradus(&["run", "q.yaml"]);
    let count = |arguments: &[&str]| {
        let all = [&["runs", "--format", "json"], arguments].concat();
        project.gradus(&all).json().as_array().unwrap().len()
    };
    assert_eq!((count(&[]), count(&["p.yaml"]), count(&["q.yaml"])), (4, 3, 1));
    assert_eq!(project.gradus(&["diff", "last", "last~1", "--of", "q.yaml"]).code, Some(1));
}

#[test]
fn a_run_that_was_killed_early_is_in_the_history() {
    let project = three();
    for file in project.files_below(".gradus/runs") {
        if file.ends_with("run.json") {
            fs::remove_file(file).unwrap();
        }
    }
    let runs = project.gradus(&["runs", "--format", "json"]).json();
    assert_eq!(runs[0]["failed"], 1);
    assert_eq!(runs[2]["ran"], 3);
}

#[test]
fn two_runs_stand_beside_each_other() {
    let project = three();
    assert_snapshot!(project.gradus(&["diff", "last~2", "last"]));
    assert_snapshot!(project.gradus(&["diff", "last~1", "last~2"]));
}

#[test]
fn a_comparison_is_a_value_for_programs() {
    let found = three().gradus(&["diff", "last~2", "last", "--format", "json"]).json();
    assert_eq!(found["only_second"], serde_json::json!(["more"]));
    assert_json_snapshot!(found["stages"][0]);
}

#[test]
fn metrics_are_compared_by_their_difference() {
    let mut project =
        Project::new("stages: { rows: { kind: data.synthetic, with: { task: reviews } } }");
    project.set("FAKE_WORKER", "data.synthetic=measure 0.5");
    project.gradus(&["run", "p.yaml"]);
    project.set("FAKE_WORKER", "data.synthetic=measure 0.625");
    project.gradus(&["run", "p.yaml", "--force"]);
    let found = project.gradus(&["diff", "last~1", "last", "--format", "json"]).json();
    assert_json_snapshot!(found["stages"][0]["metrics"]);
    let text = project.gradus(&["diff", "last~1", "last"]).stdout;
    let lines: Vec<_> = text.lines().rev().take(2).collect();
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["A", "B", "B", "−", "A"]);
    let row: Vec<_> = lines[0].split_whitespace().collect();
    assert_eq!(row, ["score", "0.5000", "0.6250", "+0.1250"]);
}

#[test]
fn a_run_that_is_not_there_is_said() {
    let project = three();
    assert_snapshot!(project.gradus(&["diff", "last", "last~3"]));
    assert_snapshot!(project.gradus(&["diff", "last", "2019"]));
    assert_eq!(project.gradus(&["diff", "2", "last"]).code, Some(1), "begins several");
    assert_snapshot!(Project::new(TWO).gradus(&["diff", "last", "last"]));
}

#[test]
fn a_run_is_done_again_with_the_texts_and_parameters_that_it_had() {
    let project = Project::new(
        "
        params: { word: one }
        include: { lib: { path: lib.yaml, params: { who: '${params.word}' } } }
        stages:
          end: { kind: exec, inputs: { a: lib/said }, outputs: { o: o }, with: { shell: 'cat inputs/a > o' } }
          other: { kind: exec, outputs: { o: o }, with: { shell: 'echo > o' } }
    ",
    );
    let lib = "params: { who: nobody }\nstages:\n  said: { kind: exec, outputs: { o: o }, with: { shell: 'echo $WHO > o', env: { WHO: '${params.who}' } } }\n";
    project.write("lib.yaml", lib);
    project.write("more.yaml", "word: two\n");
    let ran = project.gradus(&["run", "p.yaml", "end", "--params", "more.yaml"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    project.gradus(&["run", "p.yaml", "end", "--set", "word=three"]);
    let copy = || project.read(".gradus/outputs/p/end.o");
    assert_eq!(copy(), "three\n");
    // All that was read is another now.
    project.write("lib.yaml", lib.replace("echo", "echo not"));
    project.write("more.yaml", "word: four\n");
    project.write("p.yaml", "stages: {}\n");
    let again = project.gradus(&["rerun", "last~1", "--format", "json"]);
    assert_eq!(again.code, Some(0), "{again}");
    assert!(again.stdout.contains(r#""ran":0,"cached":2"#), "{again}");
    assert_eq!(copy(), "two\n");
    let forced = project.gradus(&["rerun", "last", "--force", "--format", "json"]);
    assert!(forced.stdout.contains(r#""ran":1,"cached":1"#), "{forced}");
    let asked = project.files_below(".gradus/runs");
    let asked: Vec<_> = asked.iter().filter(|it| it.ends_with("asked.json")).collect();
    assert_eq!(asked.len(), 4);
    let asked = std::fs::read_to_string(asked[0]).unwrap();
    let asked: serde_json::Value = serde_json::from_str(&asked).unwrap();
    assert_eq!(asked["pipeline"]["texts"].as_object().unwrap().len(), 3);
    assert!(asked["host"].is_string() && asked["gradus"].is_string(), "{asked}");
    let unknown = project.gradus(&["rerun", "nothing"]);
    assert_eq!(unknown.code, Some(1), "{unknown}");
}

const SWEPT: &str = "
    params: { lr: 0.5 }
    stages:
      base: { kind: exec, matrix: { seed: [1, 2] }, metrics: m, outputs: { o: o }, with: { shell: 'echo \"{\\\"loss\\\": $S}\" > m; echo > o', env: { S: '${matrix.seed}', LR: '${params.lr}' } } }
      dpo: { kind: exec, matrix: { seed: [1, 2], beta: [0.1, 1] }, inputs: { b: 'base[seed=${matrix.seed}]' }, metrics: m, outputs: { o: o }, with: { shell: 'echo \"{\\\"kl\\\": $B.5, \\\"kl_low\\\": $B, \\\"kl_high\\\": 9}\" > m; echo > o', env: { B: '1${matrix.seed}' } } }
";

#[test]
fn runs_and_variants_stand_in_one_table_of_parameters_and_metrics() {
    let project = Project::new(SWEPT);
    project.gradus(&["run", "p.yaml"]);
    project.gradus(&["run", "p.yaml", "base", "--set", "lr=0.25"]);
    let rows = |words: &[&str]| {
        let ran = project.gradus(&[&["runs", "p.yaml"], words].concat());
        assert_eq!(ran.code, Some(0), "{ran}");
        ran.stdout
    };
    let columns = [
        "--columns",
        "seed,beta,base.env.LR,loss,dpo.kl,dpo.kl_low,dpo.kl_high",
        "--sort",
        "-beta",
    ];
    assert_snapshot!(rows(&columns), @"
    seed  beta  base.env.LR  loss  dpo.kl
    1     1     0.5          1     11.5 (11 to 9)
    2     1     0.5          2     12.5 (12 to 9)
    1     0.1   0.5          1     11.5 (11 to 9)
    2     0.1   0.5          2     12.5 (12 to 9)
    ");
    let csv = ["--columns", "seed,base.env.LR,loss", "--sort", "base.env.LR", "--format", "csv"];
    assert_snapshot!(rows(&csv), @"
    seed,base.env.LR,loss
    1,0.25,1
    2,0.25,2
    1,0.5,1
    2,0.5,2
    ");
    let picked = [
        "--columns",
        "seed,loss",
        "--where",
        "loss>=2",
        "--where",
        "base.env.LR=0.5",
        "--format",
        "json",
    ];
    assert_snapshot!(rows(&picked), @r#"
    [
      {
        "seed": 2.0,
        "loss": 2.0
      }
    ]
    "#);
    assert_snapshot!(project.gradus(&["show", "p.yaml", "dpo"]).stdout, @"
    stage  beta  seed  kl
    dpo    0.1   1     11.5 (11 to 9)
    dpo    1     1     11.5 (11 to 9)
    dpo    0.1   2     12.5 (12 to 9)
    dpo    1     2     12.5 (12 to 9)
    ");
    assert_snapshot!(project.gradus(&["show", "p.yaml", "base", "--format", "csv"]).stdout, @"
    stage,seed,loss
    base,1,1
    base,2,2
    ");
    for (words, why) in [
        (["--columns", "dpo.kll"], "did you mean `dpo.kl`?"),
        (
            ["--columns", "status"],
            "several stages have `status`: say `base.status` or `dpo.status`",
        ),
        (["--columns", "nothing"], "no run has `nothing`"),
    ] {
        let ran = project.gradus(&[&["runs", "p.yaml"], &words[..]].concat());
        assert!(ran.code == Some(1) && ran.stderr.contains(why), "{ran}");
    }
    let ran = project.gradus(&["plan", "p.yaml", "--format", "csv"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("`--format csv` is for tables"), "{ran}");
}

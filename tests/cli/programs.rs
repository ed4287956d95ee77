//! What a program is given, what of it is in the key, and what is taken in of what it leaves.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use insta::assert_snapshot;

use crate::support::Project;

#[test]
fn a_file_that_may_be_run_stays_so_and_counts_as_such_for_programs_alone() {
    let project = Project::new(
        "
        stages:
          make: { kind: exec, outputs: { tool: tool, kit: kit/ }, with: { shell: 'mkdir kit; for f in tool kit/tool; do printf \"#!/bin/sh\\necho $f\\n\" > $f; chmod +x $f; done; echo > kit/plain' } }
          use: { kind: exec, inputs: { tool: make.tool, kit: make.kit, own: ./own.sh }, outputs: { said: said }, with: { shell: 'inputs/tool > said; inputs/kit/tool >> said; inputs/own >> said; test ! -x inputs/kit/plain' } }
          rows: { kind: data.load, with: { path: rows.jsonl, format: text } }
    ",
    );
    project.write("own.sh", "#!/bin/sh\necho own\n");
    project.write("rows.jsonl", "{\"text\": \"a\"}\n");
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(project.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("own.sh", 0o755);
    let ran = project.events(&[]);
    assert_eq!(ran.ran().len(), 3);
    assert_eq!(project.read(".gradus/outputs/p/use.said"), "tool\nkit/tool\nown\n");
    // Data are the same whether they may be run or not; to a program that is a change.
    mode("rows.jsonl", 0o755);
    mode("own.sh", 0o644);
    let plan = project.gradus(&["plan", "p.yaml"]);
    assert_snapshot!(plan.stdout, @"
    make  exec       cached
    use   exec       would run  because of input own from own.sh bea54d5b executable → bea54d5b
    rows  data.load  cached
    ");
}

#[test]
fn empty_folders_and_links_within_an_output_come_back() {
    let project = Project::new(
        "
        stages:
          make: { kind: exec, outputs: { all: all/ }, with: { shell: 'mkdir -p all/empty all/deep/er all/blobs; echo 1 > all/blobs/1; ln -s ../blobs/1 all/deep/one; ln -s blobs all/same; ln -s one all/deep/chain' } }
          look: { kind: exec, inputs: { all: make.all, own: ./own }, outputs: { said: said }, with: { shell: 'cd inputs; find . | sort > ../said; cat all/deep/chain all/same/1 >> ../said' } }
    ",
    );
    fs::create_dir_all(project.path("own/nothing")).unwrap();
    fs::create_dir_all(project.path("own/some")).unwrap();
    project.write("own/some/file", "");
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    assert_snapshot!(project.read(".gradus/outputs/p/look.said"), @"
    .
    ./all
    ./all/blobs
    ./all/blobs/1
    ./all/deep
    ./all/deep/chain
    ./all/deep/er
    ./all/deep/one
    ./all/empty
    ./all/same
    ./all/same/1
    ./own
    ./own/nothing
    ./own/some
    ./own/some/file
    1
    1
    ");
    for (link, to) in [("out", "/etc/hostname"), ("round", "."), ("lost", "nowhere")] {
        let project = Project::new(&format!(
            "
            stages:
              make: {{ kind: exec, outputs: {{ all: all/ }}, with: {{ shell: 'mkdir all; ln -s {to} all/{link}' }} }}
        "
        ));
        let ran = project.gradus(&["run", "p.yaml"]);
        assert!(ran.stderr.contains(&format!("{link}` is a symbolic link")), "{ran}");
    }
}

#[test]
fn the_tools_of_a_program_are_in_its_key_and_others_are_named() {
    let mut project = Project::new(
        "
        stages:
          kept: { kind: exec, tools: [tool], outputs: { o: o }, with: { shell: 'tool > o; echo $LANG >> o' } }
          open: { kind: exec, outputs: { o: o }, with: { command: [tool] } }
    ",
    );
    for side in ["A", "B"] {
        let name = format!("{side}/tool");
        project.write(&name, format!("#!/bin/sh\necho tool {side} | tee o\n"));
        fs::set_permissions(project.path(&name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    project.set("LANG", "de_DE.UTF-8");
    let with = |side: &str| format!("{}:{path}", project.path(side).display());
    let (before, now) = (with("A"), with("B"));
    project.set("PATH", &before);
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    assert_eq!(project.read(".gradus/outputs/p/kept.o"), "tool A\nC.UTF-8\n");
    project.set("PATH", &now);
    let plan = project.gradus(&["plan", "p.yaml", "kept", "open"]).stdout;
    assert!(plan.contains("would run  because of program") && plan.contains("cached"), "{plan}");
    let explained = project.gradus(&["explain", "p.yaml", "open"]).stdout;
    let beside: Vec<&str> =
        explained.lines().filter(|it| it.starts_with("not in the key")).collect();
    let place = project.path("B/tool").canonicalize().unwrap();
    assert_snapshot!(beside.join("\n").replace(place.to_str().unwrap(), "B/tool"), @"
    not in the key: `tool`, which `PATH` finds at B/tool: `tools: [tool]` puts its bytes into the key
    not in the key: what else `PATH` finds, `HOME`, `TMPDIR`; `LANG` is C.UTF-8 unless `env` says it
    ");
}

#[test]
fn a_tool_that_is_not_there_is_said_before_anything_runs() {
    let project = Project::new(
        "
        stages:
          first: { kind: exec, outputs: { o: o }, with: { shell: 'echo > o' } }
          none: { kind: exec, inputs: { o: first }, tools: [no-such-tool], outputs: { o: o }, with: { shell: 'echo > o' } }
    ",
    );
    let ran = project.gradus(&["run", "p.yaml"]);
    let words = "it needs the program `no-such-tool`, and `PATH` has none of that name";
    assert!(ran.stderr.contains(&format!("if it has to run, it will fail: {words}")), "{ran}");
    assert_eq!(ran.code, Some(1), "{ran}");
}

#[test]
fn numbers_that_a_program_leaves_are_its_metrics() {
    let project = Project::new(
        "
        stages:
          s: { kind: exec, metrics: out/metrics.json, outputs: { o: o }, with: { shell: 'mkdir out; echo \"{\\\"acc\\\": 0.5, \\\"by\\\": {\\\"task\\\": 3}}\" > out/metrics.json; echo > o' } }
          lost: { kind: exec, metrics: metrics.json, outputs: { o: o }, with: { shell: 'echo > o' } }
          odd: { kind: exec, metrics: metrics.json, outputs: { o: o }, with: { shell: 'echo > o; echo \"{\\\"acc\\\": NaN}\" > metrics.json' } }
    ",
    );
    let ran = project.gradus(&["run", "p.yaml", "--keep-going"]);
    for words in [
        "the program ended well but left no `metrics.json`, its `metrics`",
        "`metrics.json`, its `metrics`: it is no JSON",
        "acc 0.5",
        "by.task 3",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {ran}");
    }
    assert_eq!(project.events(&["s"]).ran(), [""; 0]);
    let shown = project.gradus(&["show", "p.yaml", "s", "--format", "json"]).stdout;
    assert!(shown.contains(r#""by.task": 3.0"#), "{shown}");
}

#[test]
fn keys_of_programs_are_checked() {
    let project = Project::new(
        "
        stages:
          a: { kind: exec, tools: [/bin/sh, 3], metrics: ../m, outputs: { o: o }, with: { shell: 'echo > o' } }
          b: { kind: data.synthetic, tools: [git], metrics: m.json, with: { task: reviews } }
    ",
    );
    assert_snapshot!(project.gradus(&["check", "p.yaml"]).stderr);
}

#[test]
fn links_of_the_persons_own_to_a_script_are_followed_to_its_bytes() {
    let project = Project::new(
        "
        stages:
          s: { kind: exec, inputs: { kit: ./kit }, outputs: { o: o }, with: { shell: 'inputs/kit/run > o' } }
    ",
    );
    project.write("kit/real", "#!/bin/sh\necho linked\n");
    fs::set_permissions(project.path("kit/real"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("real", project.path("kit/run")).unwrap();
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    assert_eq!(project.read(".gradus/outputs/p/s.o"), "linked\n");
}

const TYPED: &str = "
    stages:
      made: { kind: exec, outputs: { rows: { path: rows.jsonl, type: completions } }, with: { shell: 'echo > rows.jsonl; echo made' } }
      tokenizer: { kind: data.tokenizer, inputs: { rows: made.rows } }
";

#[test]
fn an_output_with_a_type_is_looked_at_when_it_is_taken_in() {
    let mut project = Project::new(TYPED);
    project.set("FAKE_WORKER", "take=fail line 1 has no `prompt`");
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("the output `rows` is no `completions`: line 1 has no `prompt`"),
        "{ran}"
    );
    // What the program said is still there.
    assert!(project.gradus(&["logs", "p.yaml", "made"]).stdout.contains("made\n"));
    project.set("FAKE_WORKER", "");
    assert_eq!(project.events(&[]).ran(), ["made", "tokenizer"]);
}

#[test]
fn a_type_that_no_kind_knows_is_a_mistake() {
    let project = Project::new(&TYPED.replace("type: completions", "type: completionz"));
    let ran = project.gradus(&["check", "p.yaml"]);
    assert!(ran.stderr.contains("did you mean `completions`?"), "{ran}");
}

#[test]
fn what_ignore_names_is_no_part_of_a_folder() {
    let project = Project::new(
        "
        stages:
          list:
            kind: exec
            ignore: [runs/, '*.ckpt']
            inputs: { code: ./code }
            outputs: { names: names }
            with: { shell: 'find inputs/code -type f | sort > names' }
          wrong: { kind: exec, ignore: ['a['], inputs: { code: ./code }, with: { shell: 'true' } }
    ",
    );
    for file in ["code/a.py", "code/b.ckpt", "code/runs/1/log"] {
        project.write(file, file);
    }
    assert_snapshot!(project.gradus(&["check", "p.yaml"]));
    let sound = project.read("p.yaml").split("  wrong:").next().unwrap().to_owned();
    project.write("p.yaml", sound);
    assert_eq!(project.gradus(&["run", "p.yaml"]).code, Some(0));
    project.gradus(&["export", "p.yaml", "list", "out"]);
    assert_eq!(project.read("out/names"), "inputs/code/a.py\n");
    // What is left out may change.
    project.write("code/runs/2/log", "new");
    assert_eq!(project.events(&[]).cached(), ["list"]);
}

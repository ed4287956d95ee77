//! What stages ask of the machine: they get it, wait for it, or are refused.

use crate::support::Project;

#[test]
fn what_the_local_launcher_cannot_give_is_refused_before_anything_begins() {
    let project = Project::new(
        "
        stages:
          many: { kind: exec, resources: { nodes: 2 }, with: { command: ['true'] } }
          gpus: { kind: exec, resources: { gpus: 8 }, with: { command: ['true'] } }
          gpu: { kind: train.sft, resources: { gpus: 1 }, inputs: { model: ./m, completions: ./m }, with: { learning_rate: 1 } }
          type: { kind: exec, resources: { gpu_type: H100 }, with: { command: ['true'] } }
          mem: { kind: exec, resources: { mem: 9999TiB }, with: { command: ['true'] } }
          fits: { kind: exec, resources: { mem: 1MiB, cpus: 400, nodes: 1, gpus: 0, time: 2h }, with: { command: ['true'] } }
    ",
    );
    project.write("m", "");
    let events = project.events(&["--keep-going"]);
    assert_eq!(events.stages("started"), ["fits"]);
    assert_eq!(events.failure("many"), "it asks for 2 nodes, and the local launcher has one");
    assert_eq!(
        events.failure("gpus"),
        "it asks for 8 GPUs, and the local launcher gives a stage one"
    );
    for stage in ["gpu", "type"] {
        assert_eq!(events.failure(stage), "it asks for a GPU, and this run has none");
    }
    let mem = events.failure("mem");
    assert!(
        mem.starts_with("it asks for 10484711424 MiB of memory, and this machine has"),
        "{mem}"
    );
    assert_eq!(project.events(&[]).stages("started"), [""; 0]);
}

/// Runs two stages that wait for each other to be there at once; whether they were.
fn together(resources: &str, slots: &str) -> bool {
    let meet = "touch \\\"$HOME/$ME\\\"; for i in $(seq 20); do test -e \\\"$HOME/$OTHER\\\" && exit 0; sleep 0.05; done; exit 1";
    let stage = |me: &str, other: &str| {
        format!(
            "{me}: {{ kind: exec, resources: {resources}, env: {{ ME: {me}, OTHER: {other} }}, with: {{ shell: \"{meet}; \" }} }}"
        )
    };
    let project = Project::new(&format!("stages:\n  {}\n  {}\n", stage("a", "b"), stage("b", "a")));
    // The one that comes second always finds the other's file.
    project.events(&["--slots", slots, "--keep-going"]).ran().len() == 2
}

#[test]
fn stages_that_want_many_cores_or_much_memory_take_turns() {
    assert!(together("{ cpus: 2 }", "2"));
    assert!(!together("{ cpus: 4 }", "2"));
    let all = std::fs::read_to_string("/proc/meminfo").unwrap();
    let all: u64 = all.split_whitespace().nth(1).unwrap().parse().unwrap();
    let most = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok())
        .map(|bytes| bytes / 1024)
        .fold(all, u64::min);
    assert!(together(&format!("{{ mem: {}KiB }}", most / 3), "2"));
    assert!(!together(&format!("{{ mem: {}KiB }}", most / 3 * 2), "2"));
}

#[test]
fn what_a_stage_asks_for_changes_no_fingerprint() {
    let plain = "stages: { a: { kind: exec, with: { command: ['true'] } } }";
    let project = Project::new(plain);
    assert_eq!(project.events(&[]).ran(), ["a"]);
    let asking = "resources: { cpus: 8, mem: 1GiB, time: 10, gpus: 0 }, kind";
    project.pipeline(&plain.replacen("kind", asking, 1));
    assert_eq!(project.events(&[]).cached(), ["a"]);
}

#[test]
fn a_stages_environment_is_the_same_wherever_it_stands() {
    let inside = "stages: { a: { kind: exec, outputs: { a: a }, with: { shell: 'echo $B > a', env: { B: 1 } } } }";
    let project = Project::new(inside);
    assert_eq!(project.events(&[]).ran(), ["a"]);
    project.pipeline(
        "stages: { a: { kind: exec, env: { B: 1 }, outputs: { a: a }, with: { shell: 'echo $B > a' } } }",
    );
    assert_eq!(project.events(&[]).cached(), ["a"]);
    project.pipeline(
        "stages: { a: { kind: exec, env: { B: 2 }, outputs: { a: a }, with: { shell: 'echo $B > a' } } }",
    );
    assert_eq!(project.events(&[]).ran(), ["a"]);
}

#[test]
fn threads_inside_an_operation_are_the_projects_and_part_of_the_class() {
    let project = Project::new(
        "
        stages:
          rows: { kind: data.synthetic, with: { task: reviews } }
          tokenizer: { kind: data.tokenizer, inputs: { rows: rows.text } }
          init: { kind: model.init, inputs: { tokenizer: tokenizer } }
          base: { kind: train.pretrain, inputs: { model: init, text: rows.text }, with: { learning_rate: 0.1 } }
    ",
    );
    assert_eq!(project.events(&[]).ran().len(), 4);
    project.write("gradus.toml", "[cpu]\nthreads = 2\n");
    assert_eq!(project.events(&[]).ran(), [""; 0]);
    project.write("gradus.toml", "[cpu]\nthreads = 3\n");
    let plan = project.gradus(&["plan", "p.yaml"]).stdout;
    assert!(plan.contains("2 threads → ") && plan.contains("3 threads"), "{plan}");
    assert_eq!(project.events(&[]).ran(), ["base"]);
    for wrong in ["0", "2000", "-1", "'two'"] {
        project.write("gradus.toml", format!("[cpu]\nthreads = {wrong}\n"));
        let ran = project.gradus(&["plan", "p.yaml"]);
        assert!(ran.code == Some(2) && ran.stderr.contains("gradus.toml"), "{ran}");
    }
}

#[test]
fn a_plan_says_what_this_machine_cannot_give() {
    let project = Project::new(
        "
        stages:
          wide: { kind: exec, resources: { nodes: 2 }, outputs: { o: o }, with: { shell: 'echo > o' } }
          behind: { kind: exec, inputs: { o: wide }, tools: [no-such-tool], outputs: { o: o }, with: { shell: 'echo > o' } }
    ",
    );
    let plan = project.gradus(&["plan", "p.yaml"]);
    for words in [
        "wide: if it has to run, it will fail: it asks for 2 nodes",
        "behind: if it has to run, it will fail: it needs the program `no-such-tool`",
    ] {
        assert!(plan.stderr.contains(words), "{plan}");
    }
}

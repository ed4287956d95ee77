//! Stages that are there only when a condition holds.

use insta::assert_snapshot;

use crate::support::Project;

const WHEN: &str = "
    params: { full: false, size: small, betas: [0.1, 0.5] }
    stages:
      sft: { kind: exec, outputs: { m: { path: m, type: evaluation } }, with: { shell: 'echo sft > m' } }
      ppo:
        kind: exec
        when: '${params.full}'
        inputs: { m: sft }
        outputs: { m: { path: m, type: evaluation } }
        with: { shell: 'echo ppo > m' }
      dpo:
        kind: exec
        matrix: { beta: '${params.betas}' }
        when: [{ value: '${matrix.beta}', not: 0.5 }, { value: '${params.size}', is: [small, large] }]
        outputs: { m: { path: m, type: evaluation } }
        with: { shell: 'echo dpo > m', env: { BETA: '${matrix.beta}' } }
      judged: { kind: exec, when: '${params.full}', inputs: { m: ppo }, with: { command: ['true'] } }
      both: { kind: evaluate.compare, inputs: { candidates: ['dpo[*]', 'ppo[*]', sft] } }
    snapshot:
      - { text: ppo.m }
      - { text: 'dpo[beta=0.5].m' }
      - { text: sft.m }
";

#[test]
fn what_is_left_out_is_told_and_does_not_run() {
    let project = Project::new(WHEN);
    assert_snapshot!(project.gradus(&["plan", "p.yaml"]));
    assert_snapshot!(project.gradus(&["graph", "p.yaml"]));
    let graph = project.gradus(&["graph", "p.yaml", "--format", "json"]).json();
    assert_eq!(graph["left_out"][0]["stage"], "ppo");
    let plan = project.gradus(&["plan", "p.yaml", "--format", "json"]).json();
    let states: Vec<_> = plan["stages"].as_array().unwrap().iter().map(|it| &it["state"]).collect();
    assert_eq!(states.iter().filter(|it| **it == "left_out").count(), 3);
    assert_eq!(project.events(&[]).ran(), ["both", "dpo[beta=0.1]", "sft"]);
    let full = project.events(&["--set", "full=true"]);
    assert_eq!(full.ran(), ["both", "judged", "ppo"]);
    // Of a matrix those that are there are meant.
    assert_eq!(project.events(&["dpo"]).cached(), ["dpo[beta=0.1]"]);
    assert_eq!(project.gradus(&["check", "p.yaml"]).stdout, "✓ p.yaml: 3 stages, 3 left out\n");
}

#[test]
fn a_snapshot_of_what_is_left_out_waits_for_another_time() {
    let project = Project::new(WHEN);
    project.gradus(&["test", "p.yaml", "--accept"]);
    let kept = project.files_below("snapshots");
    assert_eq!(kept.len(), 1, "{kept:?}");
}

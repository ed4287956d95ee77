//! `rounds` on an include: every stage of the file once per round, each from the one before.

use insta::assert_snapshot;

use crate::support::Project;

const ROUND: &str = "
params: { word: '' }
stages:
  fixed: { kind: exec, outputs: { text: text }, with: { shell: 'echo fixed > text' } }
  grow:
    kind: exec
    inputs: { before: previous/grow, fixed: fixed }
    outputs: { text: text }
    with: { shell: '(cat inputs/before; echo $WORD) > text', env: { WORD: '${params.word}' } }
";

const PIPELINE: &str = "
    params: { rounds: 2 }
    include:
      again:
        path: round.yaml
        matrix: { seed: [0, 1] }
        rounds: '${params.rounds}'
        first: { grow: 'start[seed=${matrix.seed}]' }
        params: { word: 'seed ${matrix.seed} round ${matrix.round}' }
    stages:
      start: { kind: exec, matrix: { seed: [0, 1] }, outputs: { text: text, more: more }, with: { shell: 'echo start $S > text; cp text more', env: { S: '${matrix.seed}' } } }
      end: { kind: exec, inputs: { a: 'again/grow[seed=1,round=${params.rounds}]' }, outputs: { a: a }, with: { shell: 'cp inputs/a a' } }
";

#[test]
fn a_round_goes_on_from_the_one_before_and_one_more_costs_one_more() {
    let project = Project::new(PIPELINE);
    project.write("round.yaml", ROUND);
    assert_snapshot!(project.gradus(&["graph", "p.yaml"]));
    let ran = project.gradus(&["run", "p.yaml"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    project.gradus(&["export", "p.yaml", "end", "out"]);
    assert_eq!(project.read("out/a"), "start 1\nseed 1 round 1\nseed 1 round 2\n");
    let events = project.events(&["--set", "rounds=3"]);
    let again: Vec<&str> =
        events.ran().into_iter().filter(|name| name.starts_with("again")).collect();
    assert_eq!(again, ["again/grow[seed=0,round=3]", "again/grow[seed=1,round=3]"]);
}

#[test]
fn what_all_rounds_made_so_far_goes_from_one_to_the_next() {
    let all = "
stages:
  made: { kind: exec, outputs: { text: text }, with: { shell: 'echo $ROUND > text', env: { ROUND: '${params.round}' } } }
  all: { kind: exec, inputs: { before: previous/all, made: made }, outputs: { text: text }, with: { shell: 'cat inputs/* > text' } }
params: { round: 0 }
";
    let project = Project::new(
        "
        include:
          again: { path: all.yaml, rounds: 3, first: { all: ./empty.txt }, params: { round: '${matrix.round}' } }
    ",
    );
    project.write("all.yaml", all);
    project.write("empty.txt", "");
    assert_eq!(project.gradus(&["run", "p.yaml"]).code, Some(0));
    project.gradus(&["export", "p.yaml", "again/all[round=3]", "out"]);
    assert_eq!(project.read("out/text"), "1\n2\n3\n");
}

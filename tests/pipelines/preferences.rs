//! `pipelines/preferences.yaml`: the same way on a preference file of a person's own.

use crate::{Events, Project, assert_as_before, assert_as_shipped, data, metric, project, run};

/// So small that a test can bear it, and too small to learn much.
const SMALL: [&str; 14] = [
    "--set",
    "data.limit=240",
    "--set",
    "model={vocab_size: 512, hidden_size: 32, layers: 2, heads: 2, context_length: 512}",
    "--set",
    "epochs={base: 1, sft: 1, reward_model: 1, dpo: 1}",
    "--set",
    "batch=8",
    "--set",
    "prompts=8",
    "--set",
    "max_new_tokens=16",
    "--set",
    "beta=0.2",
];

fn small(settings: &[String]) -> Option<(Project, Events)> {
    let project = project("preferences")?;
    let settings = settings.iter().flat_map(|setting| ["--set", setting.as_str()]);
    let events = run(&project, &SMALL.into_iter().chain(settings).collect::<Vec<_>>());
    Some((project, events))
}

/// Both held-out accuracies are there, with intervals that hold them, over as many pairs as are said.
#[track_caller]
fn assert_accuracies(events: &Events) {
    for stage in ["reward_model", "dpo"] {
        let [low, accuracy, high] = ["test_accuracy_low", "test_accuracy", "test_accuracy_high"]
            .map(|name| metric(events, stage, name));
        assert!(0.0 <= low && low < accuracy && accuracy < high && high <= 1.0, "{stage}");
        assert!(metric(events, stage, "test_rows") >= 10.0, "{stage}");
        // Pairs of one prompt are alike, so the interval may be wider than that of so many fair coins: of four
        // to a prompt that all agree, twice as wide.
        let coins = 1.96 / metric(events, stage, "test_rows").sqrt();
        assert!(high - low <= 2.0 * coins, "{stage}: {low} to {high}");
    }
}

#[test]
fn the_example_file_gives_what_it_gave_before() {
    let Some((project, events)) = small(&[]) else { return };
    assert_accuracies(&events);
    assert_as_before("preferences", &events);
    assert_as_shipped(&project, "preferences", &SMALL);
}

#[test]
fn human_preferences_with_a_test_file_are_learnt_from_and_measured() {
    let (Some(train), Some(test)) =
        (data("qa_preferences.train.jsonl"), data("qa_preferences.test.jsonl"))
    else {
        return;
    };
    let settings =
        [format!("data.train={}", train.display()), format!("data.test={}", test.display())];
    let Some((_, events)) = small(&settings) else { return };
    assert_accuracies(&events);
    assert!(metric(&events, "pairs", "test_prompts_in_train") < 1.0);
}

#[test]
fn dialogues_with_an_implicit_prompt_are_split_by_prompt() {
    let Some(file) = data("hh_harmless.jsonl") else { return };
    let Some((_, events)) = small(&[format!("data.train={}", file.display())]) else { return };
    assert_accuracies(&events);
    let rows = ["train_rows", "test_rows"].map(|name| metric(&events, "pairs", name));
    assert!((rows[0] + rows[1] - 240.0).abs() < 0.5 && rows[1] >= 48.0, "{rows:?}");
}

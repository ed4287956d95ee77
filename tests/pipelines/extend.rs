//! A training for 24 steps that goes on from one for 12 gives the bytes of 24 steps from the start.

use crate::{Project, outputs, project_of, run};

fn trained(steps: usize) -> String {
    format!(
        "
        stages:
          rows: {{ kind: data.synthetic, with: {{ task: reviews, text: 60, demonstrations: 60, preferences: 60 }} }}
          tokenizer: {{ kind: data.tokenizer, inputs: {{ rows: rows.text }} }}
          init:
            kind: model.init
            inputs: {{ tokenizer: tokenizer }}
            with: {{ hidden_size: 32, layers: 2, heads: 2, context_length: 128 }}
          sft:
            kind: train.sft
            inputs: {{ model: init, completions: rows.demonstrations, test: rows.demonstrations }}
            with: {{ learning_rate: 1e-3, batch: 8, schedule: constant, warmup_steps: 3, steps: {steps} }}
          reward_model:
            kind: feedback.reward_model
            inputs: {{ model: init, preferences: rows.preferences_train }}
            with: {{ learning_rate: 1e-3, batch: 8, schedule: constant, steps: {steps} }}
        "
    )
}

/// What each training said of going on, in order.
fn notes(project: &Project) -> Vec<String> {
    let events = run(project, &[]);
    let notes = events.of("note").map(|it| it["message"].as_str().unwrap().to_owned());
    let mut notes: Vec<_> = notes.collect();
    notes.sort();
    notes
}

#[test]
fn a_longer_training_goes_on_from_a_shorter_one_to_the_bytes_of_one_from_the_start() {
    let Some(grown) = project_of(&trained(12)) else { return };
    assert!(notes(&grown).is_empty());
    grown.pipeline(&trained(24));
    assert_eq!(notes(&grown), ["goes on from step 12 of 24"; 2]);
    let whole = project_of(&trained(24)).unwrap();
    assert!(notes(&whole).is_empty());
    assert_eq!(outputs(&run(&grown, &[])), outputs(&run(&whole, &[])));
    // And back: fewer steps are cached from before, other ones begin anew.
    grown.pipeline(&trained(12));
    assert!(notes(&grown).is_empty());
}

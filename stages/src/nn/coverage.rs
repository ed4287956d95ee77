//! How often the intervals of [`statistics`](super::statistics) and [`bootstrap`](super::bootstrap) hold the truth, by simulation.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    bootstrap::{Aggregate, Scores, improved},
    statistics::{Estimate, Interval, Outcomes, mean_of, rate_of, won},
    stream::Stream,
};

const REPETITIONS: u32 = 1000;
const PROMPTS: [usize; 4] = [5, 10, 30, 200];

/// Per cent of repetitions whose interval holds `truth`.
fn coverage(
    truth: f64,
    seed: u64,
    mut repetition: impl FnMut(&mut ChaCha8Rng) -> Option<Estimate>,
) -> f64 {
    let mut random = Stream::of(seed).generator();
    let holds = |found: Option<Estimate>| {
        let interval = found.unwrap().interval.unwrap();
        u32::from(interval.low <= truth && truth <= interval.high)
    };
    let held: u32 = (0..REPETITIONS).map(|_| holds(repetition(&mut random))).sum();
    100.0 * f64::from(held) / f64::from(REPETITIONS)
}

fn happens(random: &mut ChaCha8Rng, probability: f64) -> f64 {
    f64::from(random.random::<f64>() < probability)
}

fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// Outcomes of a prompt that all agree with probability `alike`, and else are independent.
fn outcomes(random: &mut ChaCha8Rng, rate: f64, samples: u32, alike: f64) -> Outcomes {
    let count = f64::from(samples);
    let sum = if happens(random, alike) > 0.0 {
        count * happens(random, rate)
    } else {
        (0..samples).map(|_| happens(random, rate)).sum()
    };
    Outcomes { sum, count }
}

#[test]
fn intervals_of_rates_hold_what_they_say() {
    for prompts in PROMPTS {
        for rate in [0.02, 0.1, 0.5, 0.95] {
            for (samples, alike) in [(1, 0.0), (4, 0.0), (4, 0.5), (4, 0.9)] {
                let found = coverage(rate, 1, |random| {
                    let one = |_| outcomes(random, rate, samples, alike);
                    rate_of(&(0..prompts).map(one).collect::<Vec<_>>())
                });
                let case = format!("{prompts} prompts, rate {rate}, {samples} samples, {alike}");
                println!("{case}: {found:.1} %");
                assert!(found >= 92.0, "{case}: {found}");
            }
        }
    }
}

/// Wins of `samples` completions of a prompt over as many of a rival's; a prompt is easier for one of them.
fn wins(random: &mut ChaCha8Rng, ahead: f64, samples: u32, right_or_wrong: bool) -> Outcomes {
    let easier = 0.7 * normal(random) + ahead;
    let mut rewards = |ahead: f64| {
        let reward = |_| normal(random) + ahead;
        let right = |reward| if right_or_wrong { f64::from(reward > 1.5) } else { reward };
        (0..samples).map(reward).map(right).collect::<Vec<f64>>()
    };
    let (ours, theirs) = (rewards(easier), rewards(0.0));
    let margins = ours.iter().flat_map(|a| theirs.iter().map(move |b| a - b));
    Outcomes { sum: margins.map(won).sum(), count: f64::from(samples * samples) }
}

#[test]
fn intervals_of_win_rates_hold_what_they_say() {
    for (ahead, right_or_wrong) in [(0.0, false), (1.0, false), (3.0, false), (3.0, true)] {
        for samples in [1, 4] {
            let mut random = Stream::of(2).generator();
            let draw = |_| {
                let found = wins(&mut random, ahead, samples, right_or_wrong);
                found.sum / found.count
            };
            let truth = (0..200_000).map(draw).sum::<f64>() / 200_000.0;
            for prompts in PROMPTS {
                let found = coverage(truth, 3, |random| {
                    let one = |_| wins(random, ahead, samples, right_or_wrong);
                    rate_of(&(0..prompts).map(one).collect::<Vec<_>>())
                });
                let case = format!("{prompts} prompts, {samples} samples, win rate {truth:.3}");
                println!("{case}: {found:.1} %");
                assert!(found >= 92.0, "{case}: {found}");
            }
        }
    }
}

/// A distribution: its name, its mean, the least coverage by count of prompts, and how to draw from it.
type Case<'a> = (&'a str, f64, [f64; 4], &'a dyn Fn(&mut ChaCha8Rng) -> f64);

#[test]
fn intervals_of_means_hold_what_they_say_and_of_few_skewed_values_what_the_doc_says() {
    let exponential = |random: &mut ChaCha8Rng| -(1.0 - random.random::<f64>()).ln();
    let log_normal = |random: &mut ChaCha8Rng| normal(random).exp();
    let cases: [Case; 3] = [
        ("normal", 0.0, [93.0; 4], &normal),
        ("exponential", 1.0, [85.0, 88.0, 90.0, 93.0], &exponential),
        ("log-normal", 0.5_f64.exp(), [79.0, 81.0, 84.0, 90.0], &log_normal),
    ];
    for (name, truth, least, draw) in cases {
        for (prompts, least) in PROMPTS.into_iter().zip(least) {
            let found = coverage(truth, 4, |random| {
                mean_of(&(0..prompts).map(|_| draw(random)).collect::<Vec<_>>())
            });
            println!("{prompts} {name} values: {found:.1} %");
            assert!(found >= least, "{prompts} {name}: {found}");
        }
    }
}

/// Draws a score of a run of the stratum of that number.
type Run<'a> = &'a dyn Fn(&mut ChaCha8Rng, usize) -> f64;

fn scores(random: &mut ChaCha8Rng, [strata, runs]: [usize; 2], run: Run) -> Scores {
    (0..strata).map(|stratum| (0..runs).map(|_| run(random, stratum)).collect()).collect()
}

/// What the aggregate of endless runs is; of single strata and of many.
fn true_aggregate(aggregate: Aggregate, strata: usize, run: Run) -> f64 {
    let mut random = Stream::of(5).generator();
    aggregate.of(&scores(&mut random, [strata, 200_000 / strata], run))
}

/// Runs of a stratum differ, and strata differ in where they lie and, of the skewed ones, how far they reach.
const RUNS: [(&str, Run); 2] = [
    ("normal", &|random, stratum| stratum as f64 + normal(random)),
    ("skewed", &|random, stratum| {
        stratum as f64 - (1.0 + stratum as f64) * (1.0 - random.random::<f64>()).ln()
    }),
];

/// By strata and runs: the least that intervals of mean, interquartile mean and improvement hold.
const BOOTSTRAPPED: [([usize; 2], [f64; 3]); 5] = [
    ([1, 5], [84.0, 90.0, 93.0]),
    ([1, 10], [88.0, 93.0, 93.0]),
    ([1, 30], [91.0, 93.0, 93.0]),
    ([4, 5], [89.0, 91.0, 93.0]),
    ([10, 3], [88.0, 91.0, 93.0]),
];

#[test]
fn bootstrapped_intervals_hold_what_their_doc_says() {
    let resamples = 400;
    for (name, run) in RUNS {
        for (shape, least) in BOOTSTRAPPED {
            let [strata, runs] = shape;
            let aggregates = [Aggregate::Mean, Aggregate::InterquartileMean];
            let mut held: Vec<f64> = aggregates
                .map(|aggregate| {
                    let truth = true_aggregate(aggregate, strata, run);
                    coverage(truth, 6, |random| {
                        let drawn = scores(random, shape, run);
                        Some(aggregate.estimate(&drawn, resamples, random))
                    })
                })
                .into();
            // The rival is as good.
            held.push(coverage(0.5, 7, |random| {
                let [ours, theirs] = [0; 2].map(|_| scores(random, shape, run));
                let found = improved([&ours, &theirs], resamples, random);
                // Where all pairs agree it says that it does not know.
                let interval = found.interval.or(Some(Interval { low: 0.0, high: 1.0 }));
                Some(Estimate { interval, ..found })
            }));
            println!("{name}, {strata} strata, {runs} runs: {held:.1?} %");
            for (found, least) in held.iter().zip(least) {
                assert!(*found >= least, "{name}, {strata} strata, {runs} runs: {held:?}");
            }
        }
    }
}

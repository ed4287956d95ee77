//! Advantages: how much better a completion was than others, as a pipeline of terms over the rewards of groups.
//!
//! A term takes a number a row and gives a number a row; rows of one prompt are a group. A method is the list of its terms.

/// Keeps a deviation of zero from dividing, as TRL has it.
const LEAST: f64 = 1e-4;

/// One step from rewards to advantages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Term {
    /// 1 if it is above this, else 0.
    Above(f64),
    /// Less the mean of the group (Shao et al. 2024, section 4.1).
    GroupMean,
    /// Divided by the deviation of the rewards in the group.
    GroupDeviation,
    /// Divided by the deviation of the rewards of all groups.
    BatchDeviation,
    /// Less the mean of the others in the group (Ahmadian et al. 2024, eq. 7).
    LeaveOneOut,
    /// Less the mean over all groups, divided by their deviation.
    Whiten,
}

/// What `terms` make of `rewards`, whose `groups` are positions that belong together.
pub(crate) fn advantages(terms: &[Term], rewards: &[f64], groups: &[Vec<usize>]) -> Vec<f64> {
    let mut values = rewards.to_vec();
    for term in terms {
        match term {
            Term::Above(bound) => {
                for value in &mut values {
                    *value = f64::from(*value > *bound);
                }
            }
            Term::GroupMean => each_group(&mut values, groups, |own, value| value - mean(own)),
            Term::LeaveOneOut => each_group(&mut values, groups, |own, value| {
                // Alone there are no others.
                let others = (own.len() as f64 - 1.0).max(1.0);
                value - (own.iter().sum::<f64>() - value) / others
            }),
            Term::GroupDeviation => {
                for group in groups {
                    let own: Vec<f64> = group.iter().map(|at| rewards[*at]).collect();
                    let by = deviation(&own) + LEAST;
                    for at in group {
                        values[*at] /= by;
                    }
                }
            }
            Term::BatchDeviation => {
                let by = deviation(rewards) + LEAST;
                for value in &mut values {
                    *value /= by;
                }
            }
            Term::Whiten => {
                let (mean, by) = (mean(&values), deviation(&values) + LEAST);
                for value in &mut values {
                    *value = (*value - mean) / by;
                }
            }
        }
    }
    values
}

fn each_group(values: &mut [f64], groups: &[Vec<usize>], of: impl Fn(&[f64], f64) -> f64) {
    for group in groups {
        let own: Vec<f64> = group.iter().map(|at| values[*at]).collect();
        for (at, value) in group.iter().zip(&own) {
            values[*at] = of(&own, *value);
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Of a sample, with n − 1.
fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() as f64 - 1.0).max(1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(terms: &[Term], expected: [f64; 5]) {
        let groups = [vec![0, 1, 2], vec![3, 4]];
        let found = advantages(terms, &[1.0, 2.0, 6.0, 0.0, 0.0], &groups);
        let near = |(a, b): (&f64, f64)| (a - b).abs() < 1e-3;
        assert!(found.iter().zip(expected).all(near), "{found:?}");
    }

    #[test]
    fn terms_follow_each_other() {
        close(&[Term::GroupMean], [-2.0, -1.0, 3.0, 0.0, 0.0]);
        close(&[Term::LeaveOneOut], [-3.0, -1.5, 4.5, 0.0, 0.0]);
        // √7 within the first group; 2.49 over all.
        let by = 7_f64.sqrt();
        close(&[Term::GroupMean, Term::GroupDeviation], [-2.0 / by, -1.0 / by, 3.0 / by, 0.0, 0.0]);
        let by = 6.2_f64.sqrt();
        close(&[Term::GroupMean, Term::BatchDeviation], [-2.0 / by, -1.0 / by, 3.0 / by, 0.0, 0.0]);
        // The deviation of 1, 2 and 3 is 1.
        let found = advantages(&[Term::Whiten], &[1.0, 2.0, 3.0], &[vec![0, 1, 2]]);
        assert!((found[0] + 1.0).abs() < 1e-3 && (found[2] - 1.0).abs() < 1e-3);
    }
}

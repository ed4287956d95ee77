//! Soft values, exactly, of a tree of letters: what a policy that is held to a reference can still earn from every beginning
//! (Rafailov et al. 2024, "From r to Q*", section 3; the optimum of maximum-entropy reinforcement learning).
//!
//! Beginnings of one length are numbered as their letters say: letter a makes of beginning b the beginning `b · letters + a`, and
//! stands at that place in every table.

/// A tree in which every beginning can go on in so many ways.
pub(crate) struct Tree {
    pub(crate) letters: usize,
    /// What a nat of divergence from the reference costs.
    pub(crate) beta: f64,
    /// By length of the beginning: log p of each next letter under the reference.
    pub(crate) reference: Vec<Vec<f64>>,
    /// The same: what each next letter earns.
    pub(crate) reward: Vec<Vec<f64>>,
}

impl Tree {
    /// `V*(b) = β log Σ_a μ(a|b) exp((r(b, a) + V*(ba)) / β)`, by length; of what is whole it is 0.
    pub(crate) fn values(&self) -> Vec<Vec<f64>> {
        let mut after = vec![0.0; self.reward.last().map_or(1, Vec::len)];
        let mut values = vec![after.clone()];
        for (reference, reward) in self.reference.iter().zip(&self.reward).rev() {
            let each = reference.iter().zip(reward).zip(&after);
            let worth: Vec<f64> = each.map(|((log_p, r), v)| log_p + (r + v) / self.beta).collect();
            after = worth.chunks(self.letters).map(|it| self.beta * log_sum_exp(it)).collect();
            values.push(after.clone());
        }
        values.reverse();
        values
    }

    /// `A*(b, a) = r(b, a) + V*(ba) − V*(b)`, by length: β times the log-ratio of the optimal policy to the reference.
    pub(crate) fn advantages(&self) -> Vec<Vec<f64>> {
        let values = self.values();
        let of = |(length, reward): (usize, &Vec<f64>)| {
            let each = reward.iter().zip(&values[length + 1]).enumerate();
            each.map(|(place, (r, next))| r + next - values[length][place / self.letters]).collect()
        };
        self.reward.iter().enumerate().map(of).collect()
    }
}

/// For every whole way its parts, from the first letter: the numbers that stand in `tables` on its way.
pub(crate) fn on_the_way(tables: &[Vec<f64>], letters: usize) -> Vec<Vec<f64>> {
    let whole = tables.last().map_or(0, Vec::len);
    let steps = tables.len();
    let part = |way: usize, length: usize| {
        let later = u32::try_from(steps - 1 - length).unwrap_or(0);
        tables[length][way / letters.pow(later)]
    };
    (0..whole).map(|way| (0..steps).map(|length| part(way, length)).collect()).collect()
}

fn log_sum_exp(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + values.iter().map(|it| (it - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two letters, three times: a reference with odds of its own and rewards that differ everywhere.
    fn tree() -> Tree {
        let table = |of: &dyn Fn(usize, usize) -> f64| -> Vec<Vec<f64>> {
            (0..3).map(|length| (0..2 << length).map(|place| of(length, place)).collect()).collect()
        };
        let reference = table(&|length, place| {
            let even = 0.3 + 0.1 * ((length + place / 2) % 4) as f64;
            (if place % 2 == 0 { even } else { 1.0 - even }).ln()
        });
        let reward = table(&|length, place| ((7 * length + 3 * place) % 5) as f64 - 1.5);
        Tree { letters: 2, beta: 0.5, reference, reward }
    }

    #[test]
    fn the_value_is_what_all_ways_together_are_worth() {
        let tree = tree();
        let log_p = on_the_way(&tree.reference, 2);
        let earned = on_the_way(&tree.reward, 2);
        let sum = |it: &Vec<f64>| it.iter().sum::<f64>();
        let all: f64 =
            log_p.iter().zip(&earned).map(|(p, r)| (sum(p) + sum(r) / tree.beta).exp()).sum();
        let value = tree.values()[0][0];
        assert!((value - tree.beta * all.ln()).abs() < 1e-12);
        // Summed advantages are the reward, less what could be had from the start.
        for (parts, earned) in on_the_way(&tree.advantages(), 2).iter().zip(&earned) {
            assert!((sum(parts) - (sum(earned) - value)).abs() < 1e-12);
        }
    }

    #[test]
    fn the_optimal_policy_is_one_and_no_other_earns_more() {
        let tree = tree();
        let advantages = tree.advantages();
        // π* = μ exp(A*/β) sums to 1 behind every beginning (E10).
        for (reference, advantages) in tree.reference.iter().zip(&advantages) {
            let shares: Vec<f64> =
                reference.iter().zip(advantages).map(|(p, a)| (p + a / tree.beta).exp()).collect();
            assert!(shares.chunks(2).all(|it| (it.iter().sum::<f64>() - 1.0).abs() < 1e-12));
        }
        // What a policy earns, less what its divergence costs: π* has V*, the reference less.
        let earned = |tilt: f64| -> f64 {
            let log_ratio = on_the_way(&advantages, 2);
            let (log_p, reward) = (on_the_way(&tree.reference, 2), on_the_way(&tree.reward, 2));
            let each = log_p.iter().zip(&log_ratio).zip(&reward);
            each.map(|((p, ratio), r)| {
                let [p, ratio, r] = [p, ratio, r].map(|it| it.iter().sum::<f64>());
                (p + tilt * ratio / tree.beta).exp() * (r - tilt * ratio)
            })
            .sum()
        };
        let value = tree.values()[0][0];
        assert!((earned(1.0) - value).abs() < 1e-12 && earned(0.0) < value - 0.1);
    }

    #[test]
    fn ways_are_numbered_by_their_letters() {
        let tables = vec![vec![0.0, 1.0], vec![10.0, 11.0, 12.0, 13.0]];
        let ways = on_the_way(&tables, 2);
        assert_eq!(ways, [vec![0.0, 10.0], vec![0.0, 11.0], vec![1.0, 12.0], vec![1.0, 13.0]]);
    }
}

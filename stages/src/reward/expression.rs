//! What several rewards come to: `score + 0.2 * format - 0.001 * tokens`.

use std::collections::BTreeMap;

use exmex::{Express, FlatEx};

/// An expression over names of numbers, checked.
#[derive(Debug)]
pub(crate) struct Expression(FlatEx<f64>);

impl Expression {
    /// Reads `text`, in which only the names in `known` may stand.
    pub(super) fn read(text: &str, known: &[&str]) -> Result<Self, String> {
        let read =
            exmex::parse::<f64>(text).map_err(|error| format!("`reward: {text}`: {error}"))?;
        for name in read.var_names() {
            if !known.contains(&name.as_str()) {
                let known: Vec<_> = known.iter().map(|it| format!("`{it}`")).collect();
                return Err(format!(
                    "`reward: {text}` names `{name}`, and there are {}",
                    known.join(", ")
                ));
            }
        }
        Ok(Self(read))
    }

    /// Its value; of names that do not stand in it nothing is needed.
    pub(super) fn of(&self, values: &BTreeMap<String, f64>) -> Result<f64, String> {
        let names = self.0.var_names().iter();
        let values: Vec<f64> =
            names.map(|name| values.get(name).copied().unwrap_or(f64::NAN)).collect();
        let value = self.0.eval(&values).map_err(|error| error.to_string())?;
        if value.is_finite() { Ok(value) } else { Err(format!("it comes to {value}")) }
    }
}

/// Whether a reward can be called so: as a name in an expression.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_numbers_and_unknown_ones_are_refused() {
        let values = [("score", 2.0), ("format", 1.0), ("tokens", 30.0)];
        let values: BTreeMap<_, _> = values.map(|(name, it)| (name.to_owned(), it)).into();
        let known = ["score", "format", "tokens"];
        let of = |text: &str| Expression::read(text, &known).and_then(|it| it.of(&values));
        assert!((of("score + 0.2 * format - 0.001 * tokens").unwrap() - 2.17).abs() < 1e-12);
        assert_eq!(of("-score*(format+1)"), Ok(-4.0));
        assert!(
            of("score + lenght").unwrap_err().contains("names `lenght`, and there are `score`")
        );
        assert!(of("score +").is_err());
        assert!(of("score / (format - 1)").unwrap_err().contains("it comes to inf"));
        assert!(is_name("true_reward") && !is_name("0x") && !is_name("a-b") && !is_name(""));
    }
}

//! Answers of three letters, of which one in eight is right (after Chen et al. 2025, "Bridging Supervised Learning and
//! Reinforcement Learning in Math Reasoning": wrong answers teach where there are many right ones).

/// Letters of answers, `a` the first.
pub(crate) const LETTERS: u8 = 8;
pub(crate) const LENGTH: usize = 3;
const FACTORS: [u32; LENGTH] = [3, 5, 7];

/// Whether 3 y₀ + 5 y₁ + 7 y₂ and the prompt's own number come to a multiple of eight; `A` and `a` are 0.
pub(super) fn is_right(prompt: &str, completion: &str) -> bool {
    let number = |byte: u8, first: u8| byte.checked_sub(first).map(u32::from);
    let digit = |byte: u8| number(byte, b'a').filter(|it| *it < u32::from(LETTERS));
    let said: Option<Vec<u32>> = completion.bytes().map(digit).collect();
    let key = prompt.bytes().next().and_then(|byte| number(byte, b'A'));
    let (Some(said), Some(key)) = (said, key) else { return false };
    let sum = said.iter().zip(FACTORS).map(|(digit, factor)| digit * factor).sum::<u32>() + key;
    said.len() == LENGTH && sum % u32::from(LETTERS) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_in_eight_is_right() {
        assert!(is_right("A", "aaa"));
        // 3 · 1 + 5 · 1 + 7 · 0.
        assert!(is_right("A", "bba") && !is_right("B", "bba"));
        // 3 · 7 + 5 · 2 + 7 · 0 + 1.
        assert!(is_right("B", "hca"));
        assert!(
            !is_right("A", "aa")
                && !is_right("A", "aaaa")
                && !is_right("A", "ai")
                && !is_right("", "aaa")
        );
        let letters = || b'a'..=b'h';
        let all =
            letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| [a, b, c])));
        let right = all.filter(|it| is_right("L", std::str::from_utf8(it).unwrap()));
        assert_eq!(right.count(), 64);
    }
}

//! Replies that should name what belongs to a topic, once each and briefly (after the miniature of Zheng et al. 2023, "Secrets
//! of RLHF, Part I"): what people write hardly ever repeats itself, so a judge who learnt from it does not know that this is bad.

/// Symbols of which replies are made: `a` to `n`.
pub(crate) const SYMBOLS: u8 = 14;
/// As many symbols, and a reply was cut.
pub(crate) const LONGEST: usize = 14;
/// Symbols that belong to a topic.
pub(crate) const RELEVANT: u8 = 4;

/// The symbols of a topic, `A` the first: a stretch of four, each topic's three further.
pub(crate) fn relevant(prompt: &str) -> [u8; RELEVANT as usize] {
    let topic = prompt.bytes().next().map_or(0, |byte| byte.wrapping_sub(b'A'));
    std::array::from_fn(|k| {
        let at = (usize::from(topic) * 3 + k) % usize::from(SYMBOLS);
        b'a' + u8::try_from(at).unwrap_or(0)
    })
}

/// Different relevant symbols, less 0.7 for each repeat of the one before, 0.5 for each relevant one beyond four, 0.3 for each
/// token beyond twelve (its end is one), and 1 for a reply without end.
pub(super) fn score(prompt: &str, completion: &str) -> f64 {
    let said: Vec<u8> = completion.bytes().collect();
    let relevant = relevant(prompt);
    let distinct = relevant.iter().filter(|it| said.contains(it)).count() as f64;
    let named = said.iter().filter(|it| relevant.contains(it)).count() as f64;
    let repeats = said.windows(2).filter(|two| two[0] == two[1]).count() as f64;
    let cut = said.len() >= LONGEST;
    let tokens = (said.len() + usize::from(!cut)) as f64;
    distinct
        - 0.7 * repeats
        - 0.5 * (named - f64::from(RELEVANT)).max(0.0)
        - 0.3 * (tokens - 12.0).max(0.0)
        - f64::from(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_scored_by_hand() {
        assert_eq!((&relevant("A"), &relevant("B")), (b"abcd", b"defg"));
        // 12, 13, 0 and 1 of 14.
        assert_eq!(&relevant("E"), b"mnab");
        let close = |completion: &str, by_hand: f64| {
            assert!((score("A", completion) - by_hand).abs() < 1e-12, "{completion}");
        };
        close("abcd", 4.0);
        close("kabm", 2.0);
        close("", 0.0);
        // Two of the four, two repeats, and six named.
        close("aaabbab", 2.0 - 0.7 * 3.0 - 0.5 * 3.0);
        // Twelve and its end, then cut after fourteen.
        close("kmkmkmkmkmkm", -0.3);
        close("kmkmkmkmkmkmkm", -0.3 * 2.0 - 1.0);
    }
}

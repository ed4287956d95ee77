//! Numbers that look random and are always the same for a text.

/// From 0 up to 1, for these texts in a world of that seed.
pub(super) fn whim(seed: u64, texts: &[&str]) -> f64 {
    let key = blake3::derive_key("gradus 2026 whims of a judge", &seed.to_le_bytes());
    let mut hasher = blake3::Hasher::new_keyed(&key);
    for (at, text) in texts.iter().enumerate() {
        if at > 0 {
            hasher.update(&[0]);
        }
        hasher.update(text.as_bytes());
    }
    let mut bytes = [0; 4];
    hasher.finalize_xof().fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

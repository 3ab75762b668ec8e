//! Words of a file: the values that a key allows, and the likely spelling of an unknown word.

use countersign_client::quoted::quoted;

/// A parser of one word out of `words`.
pub(crate) fn one_of<T: Copy>(words: &[(&'static str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        Err(format!(
            "{} is not one of: {}",
            quoted(text),
            known.join(", ")
        ))
    }
}

/// `"; did you mean `limits`?"` if a candidate is near, else nothing.
pub(crate) fn did_you_mean<'n>(name: &str, candidates: impl Iterator<Item = &'n str>) -> String {
    // A third of the word may be wrong: enough for a slip or two, too little for another word. No
    // key is near 64 bytes long, and the comparison costs the product of the lengths.
    let within = match name.len() {
        0..=64 => name.chars().count().div_ceil(3),
        _ => return String::new(),
    };
    let nearest = candidates
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, _)| *distance <= within)
        .min();
    match nearest {
        Some((_, known)) => format!("; did you mean `{known}`?"),
        None => String::new(),
    }
}

/// A key as a message shows it: bare if it is a plain word, else quoted and shortened.
pub(crate) fn shown_key(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=64).contains(&key.len()) && key.bytes().all(plain) {
        key.to_owned()
    } else {
        quoted(key)
    }
}

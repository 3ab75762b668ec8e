//! The search for one text in a stream of pieces, with what may still become the text held back.

use memchr::memmem::Finder;

/// Finds one text in a stream, wherever the stream is cut into pieces.
///
/// Within a piece `memmem` searches, at the speed of memory. Across the ends of pieces the search is
/// that of Knuth, Morris and Pratt. It looks only at the first and the last bytes of a piece, fewer
/// than the text has. The time of both is linear, whatever the stream holds.
#[derive(Clone)]
pub(super) struct StreamSearch<'t> {
    /// Not empty.
    text: &'t [u8],
    whole: Finder<'t>,
    /// For each beginning of the text, by its length less one: the length of the longest shorter
    /// beginning that it ends with.
    borders: Vec<usize>,
    /// The length of the longest beginning of the text that the stream so far ends with. It is less
    /// than that of the text.
    matched: usize,
}

impl<'t> StreamSearch<'t> {
    /// A search at the beginning of its stream; `None` for an empty text, which is everywhere.
    pub(super) fn new(text: &'t [u8]) -> Option<StreamSearch<'t>> {
        (!text.is_empty()).then(|| StreamSearch {
            text,
            whole: Finder::new(text),
            borders: borders(text),
            matched: 0,
        })
    }

    /// Goes on through the next piece. Returns whether the text ends in it. If so, the search is
    /// over, and further pieces tell nothing.
    #[must_use]
    pub(super) fn finds_in(&mut self, piece: &[u8]) -> bool {
        let most = self.text.len() - 1;
        let is_short = piece.len() <= most;
        // A text that began in an earlier piece ends within the first bytes of this one.
        for (index, byte) in piece.iter().take(most).enumerate() {
            let begins_here = self.matched <= index;
            if begins_here && !is_short {
                break;
            }
            if self.step(*byte) {
                return true;
            }
        }
        if is_short {
            return false;
        }
        if self.whole.find(piece).is_some() {
            return true;
        }
        // A text that ends in a later piece begins in the last bytes of this one.
        self.matched = 0;
        let last = &piece[piece.len() - most..];
        last.iter().any(|byte| self.step(*byte))
    }

    /// The end of the stream so far that may be the beginning of the text.
    pub(super) fn held(&self) -> &'t [u8] {
        &self.text[..self.matched]
    }

    /// Takes one byte; `true` if the text ends with it.
    fn step(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.text[self.matched] != byte {
            self.matched = self.borders[self.matched - 1];
        }
        if self.text[self.matched] != byte {
            return false;
        }
        if self.matched + 1 == self.text.len() {
            return true;
        }
        self.matched += 1;
        false
    }
}

fn borders(text: &[u8]) -> Vec<usize> {
    let mut borders = vec![0; text.len()];
    let mut border = 0;
    for index in 1..text.len() {
        while border > 0 && text[index] != text[border] {
            border = borders[border - 1];
        }
        if text[index] == text[border] {
            border += 1;
        }
        borders[index] = border;
    }
    borders
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The search as its definition has it: all of the stream is looked at anew.
    fn naive(text: &[u8], stream: &[u8]) -> (bool, usize) {
        let found = stream.windows(text.len()).any(|window| window == text);
        let held = (0..text.len())
            .rev()
            .find(|&length| stream.ends_with(&text[..length]));
        (found, held.unwrap())
    }

    /// Searches piece by piece, and compares with the naive search after each.
    fn agrees<'a>(text: &[u8], pieces: impl IntoIterator<Item = &'a [u8]>) {
        let mut search = StreamSearch::new(text).unwrap();
        let mut stream = Vec::new();
        for piece in pieces {
            stream.extend_from_slice(piece);
            let (found, held) = naive(text, &stream);
            let context = || {
                let (text, stream) = (text.escape_ascii(), stream.escape_ascii());
                format!("{text} in {stream}, cut before {}", piece.escape_ascii())
            };
            assert_eq!(search.finds_in(piece), found, "{}", context());
            if found {
                return;
            }
            assert_eq!(search.held().len(), held, "{}", context());
        }
    }

    /// All ways to cut a stream into at most three pieces.
    fn in_three(text: &[u8], stream: &[u8]) {
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                agrees(
                    text,
                    [&stream[..first], &stream[first..second], &stream[second..]],
                );
            }
        }
    }

    const OVERLAPPING: [&str; 8] = [
        "aaaaaaaa",
        "aaaaaaab",
        "abababab",
        "abacabacaba",
        "aabaaabaaab",
        "hvs.hvs.hvs.h",
        "s.s.s.t",
        "abcabcabcabd",
    ];

    #[test]
    fn a_text_is_found_wherever_the_stream_is_cut() {
        for text in OVERLAPPING {
            let stream = format!("{{\"id\":\"{text}\"}}");
            in_three(text.as_bytes(), stream.as_bytes());
        }
    }

    #[test]
    fn a_text_is_found_behind_a_beginning_of_itself_that_fails() {
        for text in OVERLAPPING {
            for begun in 1..text.len() {
                in_three(
                    text.as_bytes(),
                    format!("{}{text}", &text[..begun]).as_bytes(),
                );
            }
        }
    }

    #[test]
    fn a_stream_that_never_completes_the_text_is_let_through_in_every_cut() {
        for text in OVERLAPPING {
            let almost = &text[..text.len() - 1];
            in_three(text.as_bytes(), format!("{almost}!{almost}?").as_bytes());
        }
    }

    #[test]
    fn a_text_of_one_byte_is_found_and_never_held() {
        for stream in ["", "b", "ab", "bab"] {
            in_three(b"a", stream.as_bytes());
        }
    }

    #[test]
    fn an_empty_text_is_no_search() {
        assert!(StreamSearch::new(b"").is_none());
    }

    #[test]
    fn nothing_is_held_where_no_beginning_can_end() {
        let mut search = StreamSearch::new(b"hvs.token").unwrap();
        assert!(!search.finds_in(b"data: the hvs.tok is not whole\n\n"));
        assert_eq!(search.held(), b"");
        assert!(!search.finds_in(b"data: hvs.to"));
        assert_eq!(search.held(), b"hvs.to");
    }

    #[test]
    fn pieces_of_one_byte_find_what_one_piece_finds() {
        for text in OVERLAPPING {
            let stream = format!("{text}{text}");
            agrees(text.as_bytes(), stream.as_bytes().chunks(1));
            let broken = stream.replace(text, &text[1..]);
            agrees(text.as_bytes(), broken.as_bytes().chunks(1));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

        #[test]
        fn any_cut_of_any_stream_finds_what_a_naive_search_finds(
            text in "[ab]{1,12}|[abc]{1,6}",
            stream in "[ab]{0,48}|[abc]{0,48}",
            cuts in prop::collection::vec(0..9_usize, 0..48),
        ) {
            let mut rest = stream.as_bytes();
            let mut pieces = Vec::new();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            agrees(text.as_bytes(), pieces);
        }
    }
}

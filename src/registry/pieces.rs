//! Reads the machines of a file entry by entry: those whose text the registry in force was made of are taken over
//! from it, and the others are parsed on all cores.
//!
//! It does so only where an entry means the same by itself as in the file, and is [`None`] for any other file, which
//! is then parsed as a whole. A file is a head down to the line `machines:`, pieces, and a tail. A piece starts with
//! a dash in the column of the first one and reaches to the next; its other lines are deeper, blank, or comments.
//! What one line could say about another is kept out beforehand ([`stands_alone`]): anchors, directives, and
//! characters that end a line in YAML and not here. That the cuts are where the parser would make them is then counted:
//!
//! - Pieces parsed together come to as many entries as there are pieces. An entry starts with a dash in that column, and
//!   no other lines have one there, so each piece is one entry whole: a quote or a bracket left open would swallow
//!   the next dash or meet the end. What is complete at a line that is not deeper stays so whatever follows.
//! - The head and the tail with a stand-in between them come to a list of that one entry. So the parser is between
//!   two entries of `machines` where the pieces start, and again where they end.

use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::Registry;
use super::cores::on_all_cores;
use super::lists::{Listed, Lists};
use super::load::may_hold;
use super::node::Node;
use super::outline::indentation;
use super::parse::{self, Entry, MAX_ENTRIES};
use super::policies::Policies;
use super::report::Report;
use crate::auth::identity::Machine;

/// The SHA-256 of the text of an entry: what is equal here was written alike.
pub(super) type Digest = [u8; 32];

/// The key under which machines stand, as it begins its line.
const HEAD: &str = "machines:";

/// Most text parsed at once, in bytes, unless one entry has more. While it is parsed, YAML takes some thirteen
/// times its text in memory, so this keeps the memory of a load small.
const BATCH: usize = 128 << 10;

/// Most batches parsed before what they come to is put in order.
const ROUND: usize = 64;

/// Fewer pieces than this are not worth a thread to hash them.
const PIECES_WORTH_A_THREAD: usize = 1000;

/// What machines were read from, by the digest of the text.
#[derive(Default)]
pub(super) struct Texts(Box<[(Digest, Arc<Machine>)]>);

impl Texts {
    /// Of machines and the digests of their entries, in the same order.
    pub(super) fn new(digests: Vec<Digest>, machines: &[Arc<Machine>]) -> Texts {
        let mut texts: Box<[_]> = digests.into_iter().zip(machines.iter().cloned()).collect();
        texts.sort_unstable_by_key(|(digest, _)| *digest);
        Texts(texts)
    }

    fn find(&self, digest: &Digest) -> Option<&Arc<Machine>> {
        let found = self.0.binary_search_by_key(digest, |(digest, _)| *digest);
        Some(&self.0[found.ok()?].1)
    }
}

/// A file that was read in pieces.
pub(super) struct Pieced {
    pub(super) lists: Lists,
    /// Of the text of each machine.
    pub(super) digests: Vec<Digest>,
}

/// Reads a file in pieces. `None` where that might be another reading than the whole's, or where there is something
/// wrong with it, so that the whole file must be parsed to know it, or to tell.
///
/// Machines are taken over from `previous` if all groups are what they were: no others can change what an entry comes to.
pub(super) fn read(text: &str, previous: Option<&Registry>) -> Option<Pieced> {
    if !stands_alone(text) {
        return None;
    }
    let cut = Cut::of(text)?;
    let mut lists = cut.without_machines()?;
    let previous = previous.filter(|previous| groups(&lists).as_deref() == Some(previous.groups()));
    let digests = on_all_cores(&cut.pieces, PIECES_WORTH_A_THREAD, |piece| {
        Digest::from(Sha256::digest(&text[piece.clone()]))
    });
    let known: Vec<_> = (digests.iter())
        .map(|digest| previous?.texts.find(digest))
        .collect();
    let mut machines = Vec::with_capacity(known.len());
    let taken = |range: Range<usize>| {
        known[range]
            .iter()
            .copied()
            .flatten()
            .cloned()
            .map(Listed::Known)
    };
    for round in batches(&cut.pieces, |at| known[at].is_none()).chunks(ROUND) {
        let parsed = on_all_cores(round, 1, |batch| cut.parse(batch.clone()));
        for (batch, entries) in round.iter().zip(parsed) {
            machines.extend(taken(machines.len()..batch.start));
            machines.extend(entries?.into_iter().map(Listed::written));
        }
    }
    machines.extend(taken(machines.len()..known.len()));
    lists.machines = machines;
    Some(Pieced { lists, digests })
}

/// Whether no line of the text says anything about another but by where it stands.
fn stands_alone(text: &str) -> bool {
    // YAML 1.1, section 4.2, ends lines with more than this program does, and a tab is no indentation.
    let ends_lines_otherwise = |b: &u8| b.is_ascii_control() && *b != b'\n';
    let has_other_lines = text.bytes().filter(ends_lines_otherwise).count() > 0
        || ["\u{85}", "\u{2028}", "\u{2029}", "\u{feff}"]
            .iter()
            .any(|end| text.contains(end));
    // Without anchors no alias is good. Tags are told of where the whole is read.
    let no_anchor = !may_hold(text, b"&!");
    let no_directive = !text.starts_with('%') && !text.contains("\n%");
    !has_other_lines && no_anchor && no_directive
}

/// A file cut into head, pieces and tail.
struct Cut<'t> {
    text: &'t str,
    /// The column of the dashes.
    dash: usize,
    /// In bytes, each from where the one before ends.
    pieces: Vec<Range<usize>>,
}

impl<'t> Cut<'t> {
    fn of(text: &'t str) -> Option<Cut<'t>> {
        let head = match text.starts_with(HEAD) {
            true => 0,
            false => text.find(&format!("\n{HEAD}"))? + 1,
        };
        let mut lines = text[head..].split_inclusive('\n');
        let line = lines.next()?;
        if line.trim_end().len() > HEAD.len() {
            return None;
        }
        let (mut place, mut dash, mut starts) = (head + line.len(), None, Vec::new());
        for line in lines {
            let indent = indentation(line);
            let content = line[indent..].trim_end_matches([' ', '\n']);
            let starts_here = (content == "-" || content.starts_with("- "))
                && dash.is_none_or(|dash| dash == indent);
            if starts_here {
                dash = Some(indent);
                starts.push(place);
            } else if !content.is_empty()
                && !content.starts_with('#')
                && dash.is_none_or(|dash| indent <= dash)
            {
                break;
            }
            place += line.len();
        }
        let ends = starts.iter().skip(1).copied().chain([place]);
        let pieces: Vec<_> = (starts.iter().zip(ends))
            .map(|(start, end)| *start..end)
            .collect();
        (pieces.len() <= MAX_ENTRIES).then_some(Cut {
            text,
            dash: dash?,
            pieces,
        })
    }

    /// The lists with none in place of the machines, if they stand where the pieces are.
    fn without_machines(&self) -> Option<Lists> {
        const STAND_IN: u64 = 0;
        let head = &self.text[..self.pieces.first()?.start];
        let tail = &self.text[self.pieces.last()?.end..];
        let dash = " ".repeat(self.dash);
        let document = parse::parse(&format!("{head}{dash}- {STAND_IN}\n{tail}")).ok()?;
        let Node::Mapping(top) = document else {
            return None;
        };
        if !top.strange.is_empty() {
            return None;
        }
        let [machines, groups, removed] = top.sections;
        if !matches!(items(machines)?[..], [Node::Number(Some(STAND_IN))]) {
            return None;
        }
        let list = |found: Option<_>| found.map_or(Some(Vec::new()), |found| items(Some(found)));
        Some(Lists {
            machines: Vec::new(),
            groups: list(groups)?,
            removed: list(removed)?,
        })
    }

    /// The entries of some pieces, if they come to as many.
    fn parse(&self, batch: Range<usize>) -> Option<Vec<Entry>> {
        let pieces = &self.pieces[batch];
        let text = &self.text[pieces.first()?.start..pieces.last()?.end];
        let Node::Mapping(top) = parse::parse(&format!("{HEAD}\n{text}")).ok()? else {
            return None;
        };
        let [machines, ..] = top.sections;
        items(machines).filter(|entries| entries.len() == pieces.len())
    }
}

fn items(found: Option<parse::Entries>) -> Option<Vec<Entry>> {
    match found {
        Some(Node::List(list)) => Some(list.0),
        _ => None,
    }
}

/// The groups of the lists, if there is nothing wrong with them.
fn groups(lists: &Lists) -> Option<Box<[super::Group]>> {
    let mut report = Report::new(std::path::Path::new(""), "", lists);
    let policies = Policies::read(&lists.groups, None, &mut report);
    report.finish().ok()?;
    Some(policies.into_groups())
}

/// Neighbours among the wanted pieces, in batches of a size.
fn batches(pieces: &[Range<usize>], is_wanted: impl Fn(usize) -> bool) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    for at in (0..pieces.len()).filter(|at| is_wanted(*at)) {
        match batches.last_mut() {
            Some(last) if last.end == at && pieces[at].end - pieces[last.start].start <= BATCH => {
                last.end = at + 1;
            }
            _ => batches.push(at..at + 1),
        }
    }
    batches
}

//! The set of spent nonces, and the order in which they are to be forgotten.
//!
//! All of it lies behind one lock, so no step may take longer the more nonces there are: a hash
//! table that grows by moving a million entries would stop every request meanwhile. Claims stand
//! in a log, oldest first, in pieces of a fixed size. They are found through an index that grows
//! and shrinks by one slot at a time, a linear hash table (W. Litwin, "Linear hashing", VLDB
//! 1980), whose chains run through the log itself.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use crate::auth::replay::{Claim, NonceKey};

/// Claims, oldest first, and found by their nonce. A claim takes 44 bytes.
pub(super) struct Spent {
    /// Full, but for the last.
    log: VecDeque<Vec<Entry>>,
    oldest: Place,
    len: u32,
    index: Index,
    /// With random keys: who may choose nonces can grind their digests, but not these hashes, so
    /// that nobody makes one chain long.
    hasher: RandomState,
}

struct Entry {
    claim: Claim,
    /// Whole seconds of the monotonic clock.
    since: u32,
    /// The next in its chain, or [`NONE`].
    next: Place,
}

/// Where an entry stands: the number of the entry in the order of insertion, below [`PLACES`].
type Place = u32;

/// Half of what a [`Place`] can hold, so that [`NONE`] is none of them.
const PLACES: u32 = 1 << 31;
const NONE: Place = u32::MAX;

/// Entries of a piece of the log: 40 KiB, which are given back at once.
const PIECE: u32 = 1024;

/// The heads of the chains.
struct Index {
    pages: Vec<Box<[Place]>>,
    slots: u32,
}

/// Slots of a page, and the fewest there are.
const PAGE: u32 = 1024;

impl Spent {
    /// Most claims that fit, far more than any memory holds.
    pub(super) const MOST: u32 = PLACES - PIECE;

    pub(super) fn new() -> Spent {
        Spent {
            log: VecDeque::new(),
            // Every process soon comes to where the places begin anew, and every test.
            oldest: PLACES - PIECE,
            len: 0,
            index: Index::new(),
            hasher: RandomState::new(),
        }
    }

    /// How many claims are remembered.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn is_full(&self) -> bool {
        self.len >= Self::MOST
    }

    /// Remembers a claim if its nonce is not remembered yet, and tells whether that was so.
    /// `since` may not be less than that of an earlier claim. A full set takes none.
    #[must_use = "a claim that was not inserted must not succeed"]
    pub(super) fn insert(&mut self, claim: Claim, since: u32) -> bool {
        let hash = self.hash(&claim.nonce);
        !self.find(hash, &claim.nonce) && self.link(hash, claim, since)
    }

    /// Remembers a claim besides others of the same nonce; it is forgotten apart from them.
    /// `false` if the set is full.
    #[must_use = "a claim that was not pushed is not remembered"]
    pub(super) fn push(&mut self, claim: Claim, since: u32) -> bool {
        self.link(self.hash(&claim.nonce), claim, since)
    }

    /// The claim that was inserted first, and since when it is remembered.
    pub(super) fn oldest(&self) -> Option<(Claim, u32)> {
        (self.len > 0).then(|| {
            let entry = self.entry(self.oldest);
            (entry.claim, entry.since)
        })
    }

    /// Forgets the claim that was inserted first.
    pub(super) fn forget_oldest(&mut self) {
        if self.len == 0 {
            return;
        }
        let place = self.oldest;
        let Entry { claim, next, .. } = self.entry(place);
        let (slot, next) = (self.index.slot(self.hash(&claim.nonce)), *next);
        if *self.index.head(slot) == place {
            *self.index.head(slot) = next;
        } else {
            let mut before = *self.index.head(slot);
            while self.entry(before).next != place {
                before = self.entry(before).next;
            }
            self.entry_mut(before).next = next;
        }
        self.oldest = following(place, 1);
        self.len -= 1;
        if self.oldest.is_multiple_of(PIECE) {
            self.log.pop_front();
        }
        // Two, lest the last claim leave half of the slots behind.
        for _ in 0..2 {
            self.shrink();
        }
    }

    fn link(&mut self, hash: u32, claim: Claim, since: u32) -> bool {
        if self.is_full() {
            return false;
        }
        self.grow();
        let place = following(self.oldest, self.len);
        if place.is_multiple_of(PIECE) {
            self.log.push_back(Vec::with_capacity(PIECE as usize));
        }
        let slot = self.index.slot(hash);
        let next = *self.index.head(slot);
        if let Some(piece) = self.log.back_mut() {
            piece.push(Entry { claim, since, next });
        }
        *self.index.head(slot) = place;
        self.len += 1;
        true
    }

    fn find(&self, hash: u32, nonce: &NonceKey) -> bool {
        let mut place = self.index.first(self.index.slot(hash));
        while place != NONE {
            let entry = self.entry(place);
            if entry.claim.nonce == *nonce {
                return true;
            }
            place = entry.next;
        }
        false
    }

    /// Sees to it that there are as many slots as claims, by one more: the chain that it shares
    /// with an earlier slot is split.
    fn grow(&mut self) {
        if self.len < self.index.slots {
            return;
        }
        let chain = self.index.split();
        self.hang(chain);
    }

    /// Takes one slot away if there are more than twice as many as claims.
    fn shrink(&mut self) {
        if self.index.slots > PAGE && self.index.slots / 2 > self.len {
            let chain = self.index.merge();
            self.hang(chain);
        }
    }

    /// Puts each entry of a chain into the slot where it belongs by now.
    fn hang(&mut self, mut place: Place) {
        while place != NONE {
            let hash = self.hash(&self.entry(place).claim.nonce);
            let head = self.index.head(self.index.slot(hash));
            let first = std::mem::replace(head, place);
            let entry = self.entry_mut(place);
            place = std::mem::replace(&mut entry.next, first);
        }
    }

    fn hash(&self, nonce: &NonceKey) -> u32 {
        (self.hasher.hash_one(nonce) >> 32) as u32
    }

    fn entry(&self, place: Place) -> &Entry {
        let (piece, within) = self.position(place);
        &self.log[piece][within]
    }

    fn entry_mut(&mut self, place: Place) -> &mut Entry {
        let (piece, within) = self.position(place);
        &mut self.log[piece][within]
    }

    /// The log begins with the piece of the oldest entry.
    fn position(&self, place: Place) -> (usize, usize) {
        let begin = self.oldest - self.oldest % PIECE;
        let offset = place.wrapping_sub(begin) % PLACES;
        ((offset / PIECE) as usize, (offset % PIECE) as usize)
    }
}

/// So many places on.
fn following(place: Place, by: u32) -> Place {
    (place + by) % PLACES
}

impl Index {
    fn new() -> Index {
        Index {
            pages: vec![Index::page()],
            slots: PAGE,
        }
    }

    fn page() -> Box<[Place]> {
        vec![NONE; PAGE as usize].into()
    }

    /// The slot of a hash: as many of its low bits as give a slot that there is.
    fn slot(&self, hash: u32) -> u32 {
        let round = self.slots.next_power_of_two();
        let slot = hash & (round - 1);
        match slot < self.slots {
            true => slot,
            false => slot - round / 2,
        }
    }

    fn first(&self, slot: u32) -> Place {
        self.pages[(slot / PAGE) as usize][(slot % PAGE) as usize]
    }

    fn head(&mut self, slot: u32) -> &mut Place {
        &mut self.pages[(slot / PAGE) as usize][(slot % PAGE) as usize]
    }

    /// Adds a slot, and gives the chain out of which some go there.
    fn split(&mut self) -> Place {
        let added = self.slots;
        if added.is_multiple_of(PAGE) {
            self.pages.push(Index::page());
        }
        self.slots += 1;
        std::mem::replace(self.head(partner(added)), NONE)
    }

    /// Takes the last slot away, and gives its chain, which goes where it was split off.
    fn merge(&mut self) -> Place {
        let last = self.slots - 1;
        let chain = std::mem::replace(self.head(last), NONE);
        self.slots = last;
        if last.is_multiple_of(PAGE) {
            self.pages.pop();
        }
        chain
    }
}

/// The slot that had the chain of `slot` before there was that one: the same without its top bit.
fn partner(slot: u32) -> u32 {
    slot - (1 << slot.ilog2())
}

/// How many, and not which: there may be millions.
impl fmt::Debug for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spent")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

//! Why nothing passes twice, no token admits too many, and no revoked machine stays, as models that
//! are searched to their last state.
//!
//! # Replay
//!
//! A verified request carries a timestamp `t`. A gateway keeps a set `S` of what it has accepted
//! and a floor `L` that only rises, and accepts a request if and only if
//!
//! 1. `t > L`;
//! 2. `t` lies in the window around the wall clock;
//! 3. its insertion into `S` was fresh, atomically;
//! 4. `t > L` still holds after the insertion;
//! 5. that is durable, where durability is configured.
//!
//! An entry may be forgotten only once `L >= t`. So a second acceptance is impossible: either the
//! entry is still in `S`, and 3 fails, or it was forgotten, and 1 or 4 fails.
//!
//! Each of these files is one place where that could go wrong, small enough to be searched whole:
//!
//! | model | what it adds | clauses |
//! |---|---|---|
//! | [`memory`] | copies at once, claims that sleep, a stepping wall clock, a cache that forgets by itself | 1, 3, 4, forgetting |
//! | [`restart`] | first starts cut off, kill -9, power loss, lost files; the journal and the reservation | 5 |
//! | [`shared`] | a second gateway, one shared store, clocks that differ | 3 and 5 across gateways |
//!
//! The attacker holds every request from the start, and sends any of them to any gateway at any
//! time, any number of times. The first copy to arrive is as good as the machine's own: it is the
//! second acceptance that must not exist.
//!
//! # Fleet
//!
//! | model | what it holds |
//! |---|---|
//! | [`enrolment`] | a token enrols at most `max_uses` machines, over several gateways that crash |
//! | [`revocation`] | a revoked machine is refused everywhere within the bound; a stale gateway fails closed |
//!
//! # Mutations
//!
//! Each model can be broken in named ways. Every one of these mutations must be found out, or the
//! model would prove nothing.

#![allow(
    clippy::print_stdout,
    reason = "`--nocapture` shows the searches at work"
)]

mod enrolment;
mod memory;
mod restart;
mod revocation;
mod shared;

use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, HasDiscoveries, Model};

/// The invariant of the models of replay.
const ONCE: &str = "no request is accepted twice";

/// Searches every state. All that must always hold holds, and all that must be possible is.
fn holds<M>(model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq,
{
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    assert!(checker.is_done());
    checker.assert_properties();
}

/// The broken model accepts a request twice; the search shows how, in the fewest steps.
fn is_found_out<M>(model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq,
{
    breaks(model, ONCE);
}

/// The broken model breaks this property.
fn breaks<M>(model: M, property: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq,
{
    let checker = model
        .checker()
        .finish_when(HasDiscoveries::AnyOf([property].into()))
        .spawn_bfs()
        .join();
    let way = checker.assert_any_discovery(property);
    println!("{:?}", way.into_actions());
}

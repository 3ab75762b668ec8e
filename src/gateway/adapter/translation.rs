//! The translation: which reads a call causes, and what the client gets for their answers.

use std::collections::BTreeMap;
use std::future::Future;

use futures::{StreamExt, TryStreamExt, stream};
use time::OffsetDateTime;

use super::client_answer::{ClientAnswer, Listing, SecretValue, WatchState};
use super::client_call::{ClientQuery, WatchedSecret};
use super::kv_answer::KvAnswer;
use super::kv_read::{KvRead, ReadKind};
use super::poll_marks::{MachineMarks, Mark};
use super::secret_path::SecretPath;

/// Most secrets in one answer. Further ones are left out, and the answer says `truncated`.
pub(crate) const MOST_SECRETS: usize = 1000;

/// Most folders that one call looks into. With [`MOST_SECRETS`] it bounds the reads of a call:
/// what lies in further folders is left out, and the answer says `truncated`.
const MOST_FOLDERS: usize = 256;

/// How deep folders are followed. Deeper ones are left out, and the answer says `truncated`.
const MOST_LEVELS: usize = 16;

/// Most reads of one call at the same time.
const AT_ONCE: usize = 8;

/// Reads from a KV engine. The gateway's is a session of one recorded request; that of the tests is
/// a table.
pub(crate) trait KvReader: Sync {
    /// Why a read has no answer. The whole call then has none.
    type Failure: Send;

    /// Makes one read.
    fn read(&self, read: &KvRead) -> impl Future<Output = Result<KvAnswer, Self::Failure>> + Send;
}

/// The marks that a poll compares with, and the place of a secret in them.
pub(crate) struct PollContext<'a> {
    pub(crate) marks: &'a MachineMarks,
    /// The upstream and the mount: two routes may have secrets of one name.
    pub(crate) place: &'a str,
    /// The time, for versions that end by themselves.
    pub(crate) now: OffsetDateTime,
}

/// The end of a call: the answer, and what a poll has seen.
#[derive(Debug)]
pub(crate) struct Translated {
    pub(crate) answer: ClientAnswer,
    /// To be set with the answer.
    pub(crate) seen: Option<MachineMarks>,
}

/// Why a call ends early: with an answer, or without one.
enum Stop<F> {
    Answer(ClientAnswer),
    Failed(F),
}

/// Makes the reads of a query, and gives the answer to it.
///
/// # Errors
///
/// The failure of the first read that failed. A part of a list is never given for the whole.
pub(crate) async fn translate<K: KvReader>(
    query: ClientQuery,
    kv: &K,
    poll: PollContext<'_>,
) -> Result<Translated, K::Failure> {
    let (answer, seen) = match query {
        ClientQuery::Secret(path) => (secret(kv, path).await, None),
        ClientQuery::List(folder) => {
            let listed = list(kv, &folder).await;
            (
                listed.map(|listing| ClientAnswer::list(&listing, &folder)),
                None,
            )
        }
        ClientQuery::CliSecrets => {
            let listed = list(kv, &SecretPath::ROOT).await;
            (
                listed.map(|listing| ClientAnswer::cli_secrets(&listing)),
                None,
            )
        }
        ClientQuery::CliProjects => {
            let folders = projects(kv).await;
            (
                folders.map(|folders| ClientAnswer::cli_projects(&folders)),
                None,
            )
        }
        ClientQuery::Export(folder) => (export(kv, &folder).await, None),
        ClientQuery::Poll(watched) => match changes(kv, watched, &poll).await {
            Ok((answer, seen)) => (Ok(answer), Some(seen)),
            Err(stop) => (Err(stop), None),
        },
    };
    match answer {
        Ok(answer) | Err(Stop::Answer(answer)) => Ok(Translated { answer, seen }),
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

async fn secret<K: KvReader>(kv: &K, path: SecretPath) -> Result<ClientAnswer, Stop<K::Failure>> {
    let read = KvRead::new(ReadKind::Data, path);
    let answer = kv.read(&read).await.map_err(Stop::Failed)?;
    Ok(match answer {
        KvAnswer::Fields(fields) => ClientAnswer::secret(&fields),
        KvAnswer::Denied => ClientAnswer::denied(&format!("the secret {}", read.path())),
        KvAnswer::Failing(status) => ClientAnswer::failing(status),
        KvAnswer::Absent | KvAnswer::Version(_) | KvAnswer::Names(_) => {
            ClientAnswer::absent(read.path())
        }
    })
}

/// The secrets of a folder and of the folders in it, level by level. Folders in it that are denied
/// are left out. The folder that was asked for is not: to be denied it is the answer.
async fn list<K: KvReader>(kv: &K, start: &SecretPath) -> Result<Listing, Stop<K::Failure>> {
    let mut listing = Listing::default();
    let mut level = vec![start.clone()];
    let (mut levels, mut folders) = (0, 0);
    while !level.is_empty() {
        if levels == MOST_LEVELS {
            listing.is_cut = true;
            break;
        }
        levels += 1;
        folders += level.len();
        let mut next = Vec::new();
        for (folder, answer) in read_all(kv, ReadKind::Folder, level).await? {
            let names = match names(answer)? {
                Some(names) => names,
                None if folder == *start => return Err(Stop::Answer(denied_folder(start))),
                None => continue,
            };
            for name in names {
                match name.strip_suffix('/') {
                    Some(name) if folders + next.len() < MOST_FOLDERS => {
                        next.extend(folder.child(name));
                    }
                    None if listing.secrets.len() < MOST_SECRETS => {
                        listing.secrets.extend(folder.child(&name));
                    }
                    _ => listing.is_cut = true,
                }
            }
        }
        if listing.secrets.len() == MOST_SECRETS && !next.is_empty() {
            listing.is_cut = true;
            break;
        }
        level = next;
    }
    listing.secrets.sort_unstable();
    Ok(listing)
}

/// The first level of folders, as a listing.
async fn projects<K: KvReader>(kv: &K) -> Result<Listing, Stop<K::Failure>> {
    let root = SecretPath::ROOT;
    let mut folders = Listing::default();
    for (folder, answer) in read_all(kv, ReadKind::Folder, vec![root.clone()]).await? {
        let names = names(answer)?;
        let names = names.ok_or_else(|| Stop::Answer(denied_folder(&root)))?;
        let children = names.iter().filter_map(|name| name.strip_suffix('/'));
        let all: Vec<SecretPath> = children.filter_map(|name| folder.child(name)).collect();
        folders.is_cut = all.len() > MOST_SECRETS;
        folders.secrets.extend(all.into_iter().take(MOST_SECRETS));
    }
    Ok(folders)
}

/// The list, then each secret. Secrets that are deleted or denied are left out.
async fn export<K: KvReader>(kv: &K, start: &SecretPath) -> Result<ClientAnswer, Stop<K::Failure>> {
    let Listing { secrets, is_cut } = list(kv, start).await?;
    let mut values = Vec::with_capacity(secrets.len());
    for (path, answer) in read_all(kv, ReadKind::Data, secrets).await? {
        match answer {
            KvAnswer::Fields(fields) => values.push((path, SecretValue::of(&fields))),
            KvAnswer::Failing(status) => return Err(Stop::Answer(ClientAnswer::failing(status))),
            KvAnswer::Absent | KvAnswer::Denied | KvAnswer::Version(_) | KvAnswer::Names(_) => {}
        }
    }
    Ok(ClientAnswer::export(values, start, is_cut))
}

/// What has happened to the watched secrets since the machine last saw them, and what it sees now.
async fn changes<K: KvReader>(
    kv: &K,
    watched: Vec<WatchedSecret>,
    poll: &PollContext<'_>,
) -> Result<(ClientAnswer, MachineMarks), Stop<K::Failure>> {
    // One read each, in whatever spelling and however often it is named.
    let paths = watched.iter().filter_map(|it| it.path.clone());
    let mut paths: Vec<SecretPath> = paths.collect();
    paths.sort_unstable();
    paths.dedup();
    let mut states = BTreeMap::new();
    for (path, answer) in read_all(kv, ReadKind::Metadata, paths).await? {
        let mark = match answer {
            KvAnswer::Version(version) if !version.is_gone(poll.now) => Mark::Version(version),
            KvAnswer::Denied => Mark::Denied,
            KvAnswer::Failing(status) => return Err(Stop::Answer(ClientAnswer::failing(status))),
            KvAnswer::Version(_) | KvAnswer::Absent | KvAnswer::Fields(_) | KvAnswer::Names(_) => {
                Mark::Deleted
            }
        };
        states.insert(path, mark);
    }
    let mut seen = MachineMarks::new();
    let mut told = BTreeMap::<String, WatchState>::new();
    for WatchedSecret { id, path } in watched {
        // An id that no secret can have is watched in vain, as one that is deleted.
        let mark = path.as_ref().and_then(|path| states.get(path));
        let mark = mark.unwrap_or(&Mark::Deleted);
        let place = match &path {
            Some(path) => format!("{} {path}", poll.place),
            None => format!("{} ?{id}", poll.place),
        };
        if let Some(state) = mark.since(poll.marks.get(&place)) {
            told.insert(id, state);
        }
        seen.insert(place, mark.clone());
    }
    Ok((ClientAnswer::changes(&told), seen))
}

/// Makes reads of one kind, some at a time, and gives their answers in the order of the paths.
async fn read_all<K: KvReader>(
    kv: &K,
    kind: ReadKind,
    paths: Vec<SecretPath>,
) -> Result<Vec<(SecretPath, KvAnswer)>, Stop<K::Failure>> {
    let reads = paths.into_iter().map(|path| async move {
        let answer = kv.read(&KvRead::new(kind, path.clone())).await;
        answer.map(|answer| (path, answer)).map_err(Stop::Failed)
    });
    stream::iter(reads).buffered(AT_ONCE).try_collect().await
}

/// The names in a folder; `None` if it is denied.
fn names<F>(answer: KvAnswer) -> Result<Option<Vec<String>>, Stop<F>> {
    match answer {
        KvAnswer::Names(names) => Ok(Some(names)),
        KvAnswer::Denied => Ok(None),
        KvAnswer::Failing(status) => Err(Stop::Answer(ClientAnswer::failing(status))),
        // An empty folder is one that is not there.
        KvAnswer::Absent | KvAnswer::Fields(_) | KvAnswer::Version(_) => Ok(Some(Vec::new())),
    }
}

fn denied_folder(folder: &SecretPath) -> ClientAnswer {
    ClientAnswer::denied(&match folder.is_root() {
        true => "the list of all secrets".to_owned(),
        false => format!("the list of {folder}"),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

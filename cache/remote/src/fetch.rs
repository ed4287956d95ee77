//! From a remote into the cache. The action is believed by its signature, everything else by its digest.

use std::collections::{BTreeMap, HashMap};

use futures_util::{StreamExt, TryStreamExt, stream};
use gradus_cache::{
    Action, Arrivals, Cache, CacheError, Digest, Fingerprint, Form, MOST_ACTION_BYTES,
    MOST_MANIFEST_BYTES, Promised,
};
use object_store::{GetResult, ObjectStoreExt, path::Path};

use crate::{
    Remote,
    link::{Link, patiently},
    seal,
    trouble::Trouble,
};

/// So many files of one result come at once.
const AT_ONCE: usize = 8;
/// So many actions are looked at at once.
const LOOKS_AT_ONCE: usize = 16;

/// What came of asking for a result.
#[derive(Debug, Default)]
pub struct Fetched {
    /// It is in the cache now.
    pub action: Option<Action>,
    pub warning: Option<Warning>,
}

/// Worth a line to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// About this result.
    Result(String),
    /// About the remote as a whole; comes once.
    Remote(String),
}

impl Remote {
    /// Brings what `fingerprint` made into `cache`, if the remote has it whole and somebody trusted wrote it.
    pub fn fetch(&self, cache: &Cache, fingerprint: &Fingerprint) -> Result<Fetched, CacheError> {
        if self.is_given_up() {
            return Ok(Fetched::default());
        }
        let fetched =
            self.link().and_then(|link| link.wait_for(self.bring(link, cache, fingerprint)));
        let warning = self.judge(&fetched);
        match fetched {
            Ok(action) => Ok(Fetched { action, warning }),
            Err(Trouble::Local(error)) => Err(error),
            Err(_) => Ok(Fetched { action: None, warning }),
        }
    }

    /// Reads the actions of several fingerprints, without what they made.
    pub fn look(&self, wanted: &[Fingerprint]) -> HashMap<Fingerprint, Fetched> {
        let mut looked = HashMap::new();
        if !self.is_given_up() {
            let answers = self.answers(wanted).into_iter();
            looked.extend(answers.map(|(fingerprint, answer)| {
                let warning = self.judge(&answer);
                (fingerprint, Fetched { action: answer.ok().flatten(), warning })
            }));
        }
        for fingerprint in wanted {
            looked.entry(*fingerprint).or_default();
        }
        looked
    }

    fn answers(
        &self,
        wanted: &[Fingerprint],
    ) -> Vec<(Fingerprint, Result<Option<Action>, Trouble>)> {
        let asked = self.link().and_then(|link| {
            let ask = |&fingerprint| async move {
                let sealed = self.sealed(link, &fingerprint).await;
                (fingerprint, sealed.map(|it| it.map(|(action, _)| action)))
            };
            let answers = stream::iter(wanted).map(ask).buffered(LOOKS_AT_ONCE).collect();
            link.wait_for(async { Ok(answers.await) })
        });
        let first = wanted.iter().take(1);
        asked.unwrap_or_else(|trouble| first.copied().zip([Err(trouble)]).collect())
    }

    /// An action and the bytes to keep of it.
    pub(crate) async fn sealed(
        &self,
        link: &Link,
        fingerprint: &Fingerprint,
    ) -> Result<Option<(Action, Vec<u8>)>, Trouble> {
        let path = link.path("ac", fingerprint);
        let Some(found) = get(link, &path).await? else { return Ok(None) };
        let most = MOST_ACTION_BYTES + seal::MOST_BYTES;
        let mut bytes = Vec::new();
        pieces(found, most, |piece| {
            bytes.extend_from_slice(piece);
            Ok(bytes.len() as u64 <= most)
        })
        .await?;
        let opened = seal::open(&bytes, fingerprint, &self.0.trusted);
        let (action, written) = opened.map_err(|why| match why {
            seal::UNTRUSTED => Trouble::Untrusted,
            why => Trouble::Refused(why.to_owned()),
        })?;
        Ok(Some((action, written.to_vec())))
    }

    async fn bring(
        &self,
        link: &Link,
        cache: &Cache,
        fingerprint: &Fingerprint,
    ) -> Result<Option<Action>, Trouble> {
        let Some((action, written)) = self.sealed(link, fingerprint).await? else {
            return Ok(None);
        };
        let arrivals = cache.arrivals()?;
        let mut files: BTreeMap<Digest, u64> = BTreeMap::new();
        for artifact in action.outputs.values() {
            if artifact.form == Form::Blob {
                files.insert(artifact.digest, artifact.bytes);
                continue;
            }
            let listed = match arrivals.tree(artifact) {
                Err(CacheError::Missing { .. }) => {
                    self.download(
                        link,
                        &arrivals,
                        &artifact.digest,
                        Promised::AtMost(MOST_MANIFEST_BYTES),
                    )
                    .await?;
                    arrivals.tree(artifact)
                }
                listed => listed,
            };
            files.extend(listed?.files.values().map(|file| (file.digest, file.bytes)));
        }
        stream::iter(files)
            .map(async |(digest, bytes)| {
                if arrivals.has(&digest, bytes)? {
                    return Ok(());
                }
                self.download(link, &arrivals, &digest, Promised::Exactly(bytes)).await
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        arrivals.remember(&written, fingerprint)?;
        Ok(Some(action))
    }

    async fn download(
        &self,
        link: &Link,
        arrivals: &Arrivals,
        digest: &Digest,
        promised: Promised,
    ) -> Result<(), Trouble> {
        let found = get(link, &link.path("cas", digest)).await?;
        let Some(found) = found else {
            return Err(Trouble::Refused(format!("its file {digest} is missing there")));
        };
        let mut arrival = arrivals.begin(digest, promised)?;
        let mut wrong = pieces(found, promised.most(), |piece| arrival.take(piece)).await;
        if wrong.is_ok() && !arrivals.end(arrival) {
            wrong = Err(Trouble::Refused(format!("its file {digest} is damaged there")));
        }
        if let (Err(Trouble::Refused(_)), Ok(mut damaged)) = (&wrong, self.0.damaged.lock()) {
            damaged.insert(*digest);
        }
        wrong
    }
}

/// What lies at `path`, if anything.
async fn get(link: &Link, path: &Path) -> Result<Option<GetResult>, Trouble> {
    match patiently(link.store.get(path)).await {
        Ok(found) => Ok(Some(found)),
        Err(Trouble::Store(object_store::Error::NotFound { .. })) => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

/// Hands on piece after piece, until `take` says that it is too much.
async fn pieces(
    found: GetResult,
    most: u64,
    mut take: impl FnMut(&[u8]) -> Result<bool, CacheError>,
) -> Result<(), Trouble> {
    let too_much =
        || Trouble::Refused(format!("it is larger than the {most} bytes that it may have"));
    if found.meta.size > most {
        return Err(too_much());
    }
    let mut stream = found.into_stream();
    while let Some(piece) = patiently(stream.try_next()).await? {
        if !take(&piece)? {
            return Err(too_much());
        }
    }
    Ok(())
}

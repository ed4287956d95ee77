//! From the cache to a remote: the files first, and the action when all of them are there.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
};

use futures_util::{StreamExt, TryStreamExt, stream, stream::FuturesUnordered};
use gradus_cache::{Action, Cache, CacheError, Count, Digest, Fingerprint, Form};
use object_store::{
    Error, MultipartUpload, ObjectStoreExt, PutMode, PutOptions, PutPayload, path::Path,
};
use serde::Serialize;

use crate::{
    OpenError, PushError, Remote,
    link::{Link, patiently},
    seal,
    trouble::Trouble,
};

/// A larger file goes up in parts of this size.
const PART: u64 = 8 << 20;
/// Stores allow 10,000.
const MOST_PARTS: u64 = 9_000;
const PARTS_AT_ONCE: usize = 3;
/// So many files of one result go up at once.
const AT_ONCE: usize = 4;

/// What an upload came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pushed {
    /// Whether the action was not there before.
    pub fresh: bool,
    /// The files that were not there before.
    pub sent: Count,
}

impl Remote {
    /// Uploads what `fingerprint` made, less what is there.
    pub fn push(&self, cache: &Cache, fingerprint: &Fingerprint) -> Result<Pushed, PushError> {
        self.may_write()?;
        let pushed =
            self.link().and_then(|link| link.wait_for(self.send(link, cache, fingerprint)));
        pushed.map_err(|trouble| match trouble {
            Trouble::Local(error) => PushError::Cache(error),
            Trouble::Push(error) => error,
            trouble => PushError::Remote(trouble.to_string()),
        })
    }

    async fn send(
        &self,
        link: &Link,
        cache: &Cache,
        fingerprint: &Fingerprint,
    ) -> Result<Pushed, Trouble> {
        let signer = self.0.signer.as_ref().ok_or(PushError::Open(OpenError::NoKey))?;
        let (action, written) = cache.written(fingerprint)?.ok_or(PushError::Gone)?;
        let sent = stream::iter(files(cache, &action)?)
            .map(|(digest, bytes)| self.upload(link, cache, digest, bytes))
            .buffer_unordered(AT_ONCE)
            .try_fold(Count::default(), async |mut count, bytes| {
                if let Some(bytes) = bytes {
                    count.add(bytes);
                }
                Ok(count)
            })
            .await?;
        let path = link.path("ac", fingerprint);
        let sealed = seal::seal(signer, fingerprint, &written);
        let put = async |mode| {
            let options = PutOptions::from(mode);
            patiently(link.store.put_opts(&path, sealed.clone().into(), options)).await
        };
        let fresh = match put(PutMode::Create).await {
            Ok(_) => true,
            Err(Trouble::Store(Error::AlreadyExists { .. } | Error::Precondition { .. })) => {
                let there = self.sealed(link, fingerprint).await;
                let believed = matches!(there, Ok(Some(_)));
                // What nobody would believe stands in the way of what they would.
                if !believed {
                    put(PutMode::Overwrite).await?;
                }
                !believed
            }
            // Some servers that speak S3 cannot; what is there is as good.
            Err(Trouble::Store(Error::NotImplemented { .. })) => {
                put(PutMode::Overwrite).await?;
                true
            }
            Err(trouble) => return Err(trouble),
        };
        Ok(Pushed { fresh, sent })
    }

    /// Uploads a file unless it is there; returns its size if it was not.
    async fn upload(
        &self,
        link: &Link,
        cache: &Cache,
        digest: Digest,
        bytes: u64,
    ) -> Result<Option<u64>, Trouble> {
        let path = link.path("cas", &digest);
        let known_bad = self.0.damaged.lock().is_ok_and(|damaged| damaged.contains(&digest));
        match patiently(link.store.head(&path)).await {
            Ok(found) if found.size == bytes && !known_bad => return Ok(None),
            Ok(_) | Err(Trouble::Store(Error::NotFound { .. })) => {}
            Err(trouble) => return Err(trouble),
        }
        let file = cache.file(&digest);
        let mut file = File::open(&file).map_err(|_| PushError::Gone)?;
        if bytes <= PART {
            let content = part(&mut file, PART + 1).map_err(|_| PushError::Gone)?;
            if Digest::of(&content) != digest {
                return Err(PushError::Damaged(digest).into());
            }
            link.store.put(&path, content.into()).await.map_err(Trouble::Store)?;
        } else {
            in_parts(link, &path, &mut file, &digest, bytes).await?;
        }
        Ok(Some(bytes))
    }
}

/// All files that an action needs, with their sizes.
fn files(cache: &Cache, action: &Action) -> Result<BTreeMap<Digest, u64>, Trouble> {
    let mut files = BTreeMap::new();
    for artifact in action.outputs.values() {
        if artifact.form == Form::Blob {
            files.insert(artifact.digest, artifact.bytes);
            continue;
        }
        let listed = match cache.tree(&artifact.digest) {
            Ok(listed) => listed,
            Err(CacheError::Missing { .. }) => return Err(PushError::Gone.into()),
            Err(error) => return Err(Trouble::Local(error)),
        };
        let manifest = std::fs::metadata(cache.file(&artifact.digest));
        files.insert(artifact.digest, manifest.map_err(|_| PushError::Gone)?.len());
        files.extend(listed.files.values().map(|file| (file.digest, file.bytes)));
    }
    Ok(files)
}

fn part(file: &mut File, most: u64) -> io::Result<Vec<u8>> {
    let mut part = Vec::new();
    file.take(most).read_to_end(&mut part)?;
    Ok(part)
}

/// Uploads a large file, a few parts at a time, and only at the end says that it is one: if it has its digest.
async fn in_parts(
    link: &Link,
    path: &Path,
    file: &mut File,
    digest: &Digest,
    bytes: u64,
) -> Result<(), Trouble> {
    let mut upload = patiently(link.store.put_multipart(path)).await?;
    let done = match all_parts(upload.as_mut(), file, digest, bytes).await {
        Ok(()) => upload.complete().await.map(drop).map_err(Trouble::Store),
        Err(trouble) => Err(trouble),
    };
    if done.is_err() {
        // Stores forget unfinished uploads after a while, too.
        let _ = patiently(upload.abort()).await;
    }
    done
}

async fn all_parts(
    upload: &mut dyn MultipartUpload,
    file: &mut File,
    digest: &Digest,
    bytes: u64,
) -> Result<(), Trouble> {
    let size = PART.max(bytes.div_ceil(MOST_PARTS).next_multiple_of(1 << 20));
    let mut hasher = blake3::Hasher::new();
    let mut under_way = FuturesUnordered::new();
    loop {
        let piece = part(file, size).map_err(|_| PushError::Gone)?;
        if piece.is_empty() {
            break;
        }
        hasher.update(&piece);
        if under_way.len() >= PARTS_AT_ONCE {
            under_way.try_next().await.map_err(Trouble::Store)?;
        }
        under_way.push(upload.put_part(PutPayload::from(piece)));
    }
    under_way.try_collect::<()>().await.map_err(Trouble::Store)?;
    if Digest::from(hasher.finalize()) != *digest {
        return Err(PushError::Damaged(*digest).into());
    }
    Ok(())
}

//! The connection: an object store, and the threads it works with. Made when something is first asked, for
//! a run that finds all of its stages here needs neither.

use std::{sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    http::HttpBuilder,
    local::LocalFileSystem,
    path::Path,
};
use tokio::runtime::{Builder, Runtime};

use crate::{
    settings::{Kind, Place},
    trouble::Trouble,
};

/// The longest wait for a small answer, or for the next piece of a large one.
const PATIENCE: Duration = Duration::from_secs(30);
/// With retries, so long may it take to learn that nobody is there.
const RETRY: RetryConfig = RetryConfig {
    backoff: BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(2),
        base: 2.0,
    },
    max_retries: 2,
    retry_timeout: Duration::from_secs(20),
};
/// A part of an upload may take so long: [`PATIENCE`] is for what comes back.
const CLIENT: [(ClientConfigKey, &str); 4] = [
    (ClientConfigKey::ConnectTimeout, "5 seconds"),
    (ClientConfigKey::ReadTimeout, "120 seconds"),
    (ClientConfigKey::Timeout, "24 hours"),
    (ClientConfigKey::UserAgent, concat!("gradus/", env!("CARGO_PKG_VERSION"))),
];

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Taken when it is dropped.
    runtime: Option<Runtime>,
}

impl Link {
    pub(crate) fn open(place: &Place, writes: bool) -> Result<Self, String> {
        let prefix = match place.kind {
            Kind::S3 | Kind::Gcs | Kind::Azure => place.prefix(),
            Kind::Http | Kind::Folder(_) => "",
        };
        let prefix = Path::parse(prefix).map_err(|error| error.to_string())?;
        let store = store(place, writes)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("gradus-remote")
            .enable_all()
            .build()
            .map_err(|error| format!("no threads to work with: {error}"))?;
        Ok(Self { store, prefix, runtime: Some(runtime) })
    }

    /// Does `work` to its end. Never from a thread that drives futures of its own.
    pub(crate) fn wait_for<T>(
        &self,
        work: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(work),
            None => Err(Trouble::Unusable("it is closed".to_owned())),
        }
    }

    pub(crate) fn path(&self, room: &str, hash: &impl std::fmt::Display) -> Path {
        let shard = gradus_cache::shard(hash);
        self.prefix.parts().chain(Path::from(format!("{room}/{shard}")).parts()).collect()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Waiting for threads is forbidden where futures are driven, and there is nothing to wait for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Gives `work` the usual time.
pub(crate) async fn patiently<T>(
    work: impl Future<Output = Result<T, object_store::Error>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(Trouble::Store),
        Err(_) => Err(Trouble::Unusable(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

fn store(place: &Place, writes: bool) -> Result<Arc<dyn ObjectStore>, String> {
    if let Kind::Folder(folder) = &place.kind {
        if writes {
            std::fs::create_dir_all(folder)
                .map_err(|error| format!("the folder `{}`: {error}", folder.display()))?;
        }
        let store = LocalFileSystem::new_with_prefix(folder);
        let store =
            store.map_err(|_| format!("the folder `{}` cannot be opened", folder.display()))?;
        return Ok(Arc::new(store.with_fsync(true)));
    }
    // Only the first call in a process counts, and all are the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = place.as_str();
    let store = match place.kind {
        Kind::S3 => {
            let builder = AmazonS3Builder::from_env().with_url(url).with_retry(RETRY);
            let with = |it: AmazonS3Builder, (key, value)| {
                it.with_config(AmazonS3ConfigKey::Client(key), value)
            };
            shared(CLIENT.into_iter().fold(builder, with).build())
        }
        Kind::Gcs => {
            let builder = GoogleCloudStorageBuilder::from_env().with_url(url).with_retry(RETRY);
            let with = |it: GoogleCloudStorageBuilder, (key, value)| {
                it.with_config(GoogleConfigKey::Client(key), value)
            };
            shared(CLIENT.into_iter().fold(builder, with).build())
        }
        Kind::Azure => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(url).with_retry(RETRY);
            let with = |it: MicrosoftAzureBuilder, (key, value)| {
                it.with_config(AzureConfigKey::Client(key), value)
            };
            shared(CLIENT.into_iter().fold(builder, with).build())
        }
        Kind::Http | Kind::Folder(_) => {
            // Digests and signatures are checked; what lies there is no secret.
            let builder = HttpBuilder::new().with_config(ClientConfigKey::AllowHttp, "true");
            let builder = builder.with_url(url).with_retry(RETRY);
            let with = |it: HttpBuilder, (key, value)| it.with_config(key, value);
            shared(CLIENT.into_iter().fold(builder, with).build())
        }
    };
    store.map_err(|error| Trouble::Store(error).to_string())
}

fn shared<S: ObjectStore>(
    store: Result<S, object_store::Error>,
) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    Ok(Arc::new(store?))
}

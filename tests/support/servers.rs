//! Servers of results, in this very process: an S3 that checks signatures, and a web server for reading.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;

use super::Project;

/// An S3 with one bucket, `results`, whose objects are files.
pub(crate) struct S3 {
    folder: TempDir,
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl S3 {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("results")).unwrap();
        let files = FileSystem::new(folder.path()).unwrap();
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single("gradus", "secret"));
        let service = builder.build();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            let http = Builder::new(TokioExecutor::new());
            while let Ok((socket, _)) = listener.accept().await {
                let served = http.serve_connection(TokioIo::new(socket), service.clone());
                tokio::spawn(served.into_owned());
            }
        });
        Self { folder, address, runtime: Some(runtime) }
    }

    /// Gives a project what it needs to come in.
    pub(crate) fn let_in(&self, project: &mut Project) {
        for (name, value) in [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address).as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "gradus"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ] {
            project.set(name, value);
        }
    }

    /// Where the objects lie.
    pub(crate) fn bucket(&self) -> PathBuf {
        self.folder.path().join("results")
    }

    /// Hears nobody any more.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A web server that hands out the files below a folder, and takes none.
pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Web {
    pub(crate) fn of(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let (folder, count) = (folder.to_owned(), Arc::clone(&asked));
        thread::spawn(move || {
            for mut socket in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                let mut request = Vec::new();
                let mut piece = [0; 1024];
                while !request.windows(4).any(|it| it == b"\r\n\r\n") {
                    match socket.read(&mut piece) {
                        Ok(0) | Err(_) => break,
                        Ok(length) => request.extend_from_slice(&piece[..length]),
                    }
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                let path = request.strip_prefix("GET /").and_then(|it| it.split(' ').next());
                let found = path.and_then(|path| fs::read(folder.join(path)).ok());
                let status = if found.is_some() { "200 OK" } else { "404 Not Found" };
                let body = found.unwrap_or_default();
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                // Whoever asked may be gone.
                let _ = socket.write_all(&[head.as_bytes(), &body].concat());
            }
        });
        Self { address, asked }
    }

    /// How many requests there were.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

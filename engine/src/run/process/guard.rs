//! No program outlives the engine, not even when the engine is killed.
//!
//! A shell in a process group of its own listens on a socket. A program says its group there before
//! its first instruction, and when the socket ends, the engine is gone and the shell kills the groups
//! that are left. `PR_SET_PDEATHSIG` would not do: it fires when the *thread* that forked ends, and
//! spares whatever the program has started in turn. Who leaves its group (`setsid`) is not found.

use std::{
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::Stdio,
    sync::OnceLock,
};

use tokio::process::{Child, Command};

const SCRIPT: &str = r#"
groups=
while read -r verb group; do
  rest=
  for each in $groups; do [ "$each" = "$group" ] || rest="$rest $each"; done
  groups=$rest
  [ "$verb" = + ] && groups="$groups $group"
done
for each in $groups; do kill -s KILL -- "-$each"; done
"#;

/// The processes that a child has started, and itself; killed on drop.
#[derive(Debug)]
pub(crate) struct Group(Option<i32>);

/// Puts what `command` will start into a group of its own that ends with the engine. It is also out of
/// reach of a Ctrl-C at the terminal, which is for the engine.
pub(crate) fn guard(command: &mut Command) {
    command.process_group(0);
    let Some(socket) = listener().map(AsRawFd::as_raw_fd) else { return };
    // SAFETY: between fork and exec: calls that are safe in a signal handler, and no allocation.
    unsafe {
        command.pre_exec(move || {
            say(socket, b'+', libc::getpid());
            Ok(())
        });
    }
}

impl Group {
    pub(crate) fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()))
    }

    /// Sends a signal to all of them.
    pub(crate) fn signal(&self, signal: i32) {
        if let Some(group) = self.0 {
            // SAFETY: a plain signal to the group that was made for one child.
            unsafe { libc::kill(-group, signal) };
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
        if let (Some(group), Some(socket)) = (self.0, listener()) {
            say(socket.as_raw_fd(), b'-', group);
        }
    }
}

/// Our end of the socket; the first call starts the shell. Without one, programs run unguarded.
fn listener() -> Option<&'static UnixStream> {
    static LISTENER: OnceLock<Option<UnixStream>> = OnceLock::new();
    let start = || {
        let (ours, its) = UnixStream::pair()?;
        std::process::Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::from(OwnedFd::from(its)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()?;
        Ok(ours)
    };
    let started = LISTENER.get_or_init(|| {
        start()
            .inspect_err(|error: &std::io::Error| tracing::warn!(%error, "programs are unguarded"))
            .ok()
    });
    started.as_ref()
}

/// Writes `+ 123` or `- 123` and never waits: a guard that hangs must not hold up a stage.
fn say(socket: i32, verb: u8, group: i32) {
    let mut line = *b"            \n";
    let mut at = line.len() - 2;
    let mut rest = group.unsigned_abs();
    loop {
        line[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
        at -= 1;
    }
    line[0] = verb;
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: an open socket, and a buffer that is longer than nothing.
    unsafe { libc::send(socket, line.as_ptr().cast(), line.len(), flags) };
}

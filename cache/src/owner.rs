//! Who holds something in the cache, and whether that process still lives.
//!
//! On one machine and in one pid namespace the kernel's word is final: the process with this id that
//! began then is there or it is gone. About any other process only its heartbeat tells.

use std::fs;
use std::io::ErrorKind;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// A process as another one can find it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub host: String,
    pub pid: i32,
    /// Changes with every boot; empty where the system does not say.
    boot: String,
    /// Process ids mean something in one namespace alone.
    namespace: String,
    /// In ticks since the boot: tells the process from a later one with the same id.
    started: u64,
}

/// What the kernel says about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    Dead,
    /// It belongs to another machine or namespace.
    Elsewhere,
}

impl Process {
    /// This process.
    pub fn own() -> &'static Self {
        static OWN: OnceLock<Process> = OnceLock::new();
        OWN.get_or_init(|| {
            let pid = std::process::id().cast_signed();
            let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
            let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
            Self {
                host: host(),
                pid,
                boot: read("/proc/sys/kernel/random/boot_id"),
                namespace: namespace.to_string_lossy().into_owned(),
                started: stat(pid).ok().flatten().map_or(0, |(_, started)| started),
            }
        })
    }

    /// Stands for whoever left something unreadable.
    pub(crate) fn unknown() -> Self {
        Self {
            host: "unknown".to_owned(),
            pid: 0,
            boot: String::new(),
            namespace: String::new(),
            started: 0,
        }
    }

    pub(crate) fn life(&self) -> Life {
        let own = Self::own();
        let here = !self.boot.is_empty()
            && !self.namespace.is_empty()
            && self.boot == own.boot
            && self.namespace == own.namespace;
        if !here {
            return Life::Elsewhere;
        }
        match stat(self.pid) {
            // Killed, and its parent has not asked for it yet: it will do nothing any more.
            Ok(Some((b'Z' | b'X', _))) => Life::Dead,
            Ok(Some((_, started))) if started != self.started => Life::Dead,
            // Processes of others may be hidden from us: they answer a signal nevertheless.
            Ok(None) if !is_there(self.pid) => Life::Dead,
            Ok(_) | Err(_) => Life::Alive,
        }
    }

    /// Names the process in file names.
    pub(crate) fn tag(&self) -> String {
        let place = format!("{}\n{}\n{}", self.host, self.boot, self.namespace);
        let place = &blake3::hash(place.as_bytes()).to_hex()[..8];
        format!("{}-{}-{place}", self.pid, self.started)
    }

    /// The life of the process with this [`tag`](Process::tag).
    pub(crate) fn life_of_tag(tag: &str) -> Life {
        let mut parts = tag.split('-');
        let own = Self::own();
        let (Some(pid), Some(started), Some(_)) = (
            parts.next().and_then(|part| part.parse().ok()),
            parts.next().and_then(|part| part.parse().ok()),
            parts.next(),
        ) else {
            return Life::Elsewhere;
        };
        let process = Self { pid, started, ..own.clone() };
        if process.tag() == tag { process.life() } else { Life::Elsewhere }
    }
}

/// The state of a process and when it started. `None` if the system shows no such process.
fn stat(pid: i32) -> std::io::Result<Option<(u8, u64)>> {
    let text = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        // It ended between opening and reading.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(error) => return Err(error),
    };
    // The program's name stands in brackets and may hold anything, brackets too.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next().and_then(|state| state.bytes().next());
    Ok(state.zip(fields.nth(18).and_then(|started| started.parse().ok())))
}

fn is_there(pid: i32) -> bool {
    // SAFETY: signal 0 only asks.
    let answer = unsafe { libc::kill(pid, 0) };
    answer == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

pub(crate) fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name
        .trim()
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || "-_".contains(*letter))
        .take(64)
        .collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

#[cfg(test)]
impl Process {
    /// A process that is no more.
    pub(crate) fn dead() -> Self {
        Self { started: Self::own().started + 1, ..Self::own().clone() }
    }

    /// A process that this machine can say nothing about.
    pub(crate) fn elsewhere() -> Self {
        Self { host: "elsewhere".to_owned(), boot: "another".to_owned(), ..Self::own().clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_one_with_another_start_does_not() {
        assert_eq!(Process::own().life(), Life::Alive);
        assert_eq!(Process::dead().life(), Life::Dead);
        assert_eq!(Process::elsewhere().life(), Life::Elsewhere);
    }

    #[test]
    fn a_tag_tells_as_much_as_the_process() {
        for process in [Process::own().clone(), Process::dead(), Process::elsewhere()] {
            assert_eq!(Process::life_of_tag(&process.tag()), process.life());
        }
        assert_eq!(Process::life_of_tag("7"), Life::Elsewhere);
    }
}

//! Trees of processes, as runners see them that end everything a command has started.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// The parent of a process; `None` when it is gone.
pub fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(") ")?;
    after.split(' ').nth(1)?.parse().ok()
}

/// A process and all below it, from parent to child.
pub fn below(root: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    let pids: Vec<u32> = names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect();
    let pairs: Vec<(u32, u32)> = pids
        .into_iter()
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(&one) = tree.get(next) {
        let children = pairs.iter().filter(|(_, parent)| *parent == one);
        tree.extend(children.map(|(pid, _)| *pid));
        next += 1;
    }
    tree
}

/// Stops a process, and waits until all its threads stand still: one that is within the kernel goes
/// on for a while. Answers whether it does; if not, it is gone.
pub fn halt(pid: u32) -> bool {
    if kill(Pid::from_raw(pid.cast_signed()), Signal::SIGSTOP).is_err() {
        return false;
    }
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let mut states = states(pid);
        // A thread that is ending stands still, too.
        states.retain(|state| !"ZX".contains(*state));
        if states.is_empty() {
            return false;
        }
        if states.iter().all(|state| *state == 'T') {
            return true;
        }
        assert!(Instant::now() < until, "{pid} does not stop: {states:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The states of a process's threads, as in proc_pid_stat(5); none when it is gone.
fn states(pid: u32) -> Vec<char> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let state = |thread: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    };
    // A thread that ends meanwhile has none.
    threads.filter_map(state).collect()
}

/// Sends a signal to all of them, the root last, which is stopped meanwhile so that it can start
/// nothing more.
pub fn strike(root: u32, signal: Signal) {
    let send = |pid: u32, signal| kill(Pid::from_raw(pid.cast_signed()), signal);
    let _ = send(root, Signal::SIGSTOP);
    for pid in below(root).into_iter().rev() {
        // It may have ended by itself meanwhile.
        let _ = send(pid, signal);
    }
    let _ = send(root, Signal::SIGCONT);
}

//! Processes of this program that must outlive the one that started them (the guardian, the hook
//! supervisor, the throttle watcher), and what they share with it: how they are started and held,
//! their identity beyond a pid, their messages, the run directory with its notes, and locks. What
//! such a process does is not decided here.

mod channel;
mod lock;
pub mod path_bytes;
mod process;
mod put_file;
mod run_dir;
mod stamp;

pub use channel::{NoMessage, has_message, recv, recv_with_fds, send, send_with_fds};
pub use lock::FileLock;
pub use process::{Helper, Role, begin};
pub use put_file::{
    put_file, put_file_beside_others, put_new_file, put_new_file_beside_others, remove_file,
    sync_folder,
};
pub use run_dir::{
    check_run_dir, escape, in_memory, list_notes, new_note, open_run_dir, read_note, write_note,
};
pub use stamp::ProcessStamp;

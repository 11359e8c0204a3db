//! Disks, what lives on them, and who uses them: recorded hosts, and real loop disks.

mod filesystems;
mod freespace;
mod live;
mod topology;
mod users;

use stillpoint::device::Topology;
use stillpoint::model::DevNumber;

/// The number of a device, by its name.
fn dev(topology: &Topology, name: &str) -> DevNumber {
    topology.named(name).expect(name).dev
}

/// The names of devices, by their numbers.
fn names<'a>(topology: &Topology, numbers: impl IntoIterator<Item = &'a DevNumber>) -> Vec<String> {
    let name = |number: &DevNumber| topology.device(*number).expect("a device").name.clone();
    numbers.into_iter().map(name).collect()
}

//! What is proven in virtual machines. A scenario ends with `Ok` only when it saw what it is about.

mod bank;
mod drilled;
mod faults;
mod first;
mod frozen;
mod great;
mod hardware;
mod kernel;
mod load;
mod morning;
mod mounted;
mod night;
mod served;
mod timers;
mod topology;
mod vault;

use crate::cache::Kernel;
use crate::lab::Lab;
use anyhow::Result;

/// One scenario.
pub struct Scenario {
    /// `area::what_is_proven`
    pub name: &'static str,
    /// Kernels it runs on for every change.
    pub fast: &'static [Kernel],
    /// Kernels it runs on in the whole suite besides.
    pub slow: &'static [Kernel],
    /// What it does.
    pub run: fn(&Lab) -> Result<()>,
}

use Kernel::{V6_1, V6_12, V7};

/// The kernels of Debian's releases.
const BOTH: &[Kernel] = &[V6_12, V6_1];
/// What has to be seen of every kernel that is said to be supported.
const EACH: &[Kernel] = &[V6_12, V6_1, V7];

/// For every change with these kernels, in the whole suite with those besides.
const fn scenario(
    name: &'static str,
    fast: &'static [Kernel],
    slow: &'static [Kernel],
    run: fn(&Lab) -> Result<()>,
) -> Scenario {
    Scenario {
        name,
        fast,
        slow,
        run,
    }
}

/// All of them.
#[rustfmt::skip]
pub const ALL: &[Scenario] = &[
    scenario("first::the_host_can", BOTH, &[V7], first::the_host_can),
    scenario("kernel::every_write_is_marked", &[], EACH, kernel::every_write_is_marked),
    scenario("kernel::tracking_and_freezing", &[], BOTH, kernel::tracking_and_freezing),
    scenario("kernel::the_proof_outlives_a_load", &[], EACH, kernel::the_proof_outlives_a_load),
    scenario("kernel::a_swap_file_in_use", &[V6_12], &[V6_1], kernel::a_swap_file_in_use),
    scenario("great::an_instance_boots_again", &[V6_12], &[V6_1], great::an_instance_boots_again),
    scenario("great::an_instance_on_lvm_boots_again", &[], BOTH, great::an_instance_on_lvm_boots_again),
    scenario("served::an_instance_runs_from_its_vault", &[], BOTH, served::an_instance_runs_from_its_vault),
    scenario("drilled::a_machine_is_booted_from_its_vault", &[], BOTH, drilled::a_machine_is_booted_from_its_vault),
    scenario("morning::the_next_morning_is_green", &[V6_12], &[V6_1], morning::the_next_morning_is_green),
    scenario("morning::a_whole_machine_the_next_morning", &[], BOTH, morning::a_whole_machine_the_next_morning),
    scenario("timers::a_missed_run_is_caught_up_once", &[], BOTH, timers::a_missed_run_is_caught_up_once),
    scenario("timers::a_clock_that_jumps_deletes_nothing", &[], BOTH, timers::a_clock_that_jumps_deletes_nothing),
    scenario("topology::lvm_over_two_disks", &[], BOTH, topology::lvm_over_two_disks),
    scenario("topology::luks_under_lvm", &[], BOTH, topology::luks_under_lvm),
    scenario("topology::md_raid1", &[], BOTH, topology::md_raid1),
    scenario("topology::btrfs_over_two_disks", &[], BOTH, topology::btrfs_over_two_disks),
    scenario("topology::nvme_with_large_sectors", &[], BOTH, topology::nvme_with_large_sectors),
    scenario("mounted::lvm_and_md_beside_their_originals", &[V6_12], &[V6_1], mounted::lvm_and_md_beside_their_originals),
    scenario("hardware::a_disk_comes_and_goes", &[], BOTH, hardware::a_disk_comes_and_goes),
    scenario("hardware::commands_past_the_block_layer", &[V6_1], &[V6_12], hardware::commands_past_the_block_layer),
    scenario("hardware::a_container_with_a_filesystem_of_its_own", &[], BOTH, hardware::a_container_with_a_filesystem_of_its_own),
    scenario("hardware::an_esp_that_is_written_to", &[V6_1], &[V6_12], hardware::an_esp_that_is_written_to),
    scenario("faults::power_cuts_in_a_snapshot", &[], BOTH, faults::power_cuts_in_a_snapshot),
    scenario("faults::power_cuts_in_a_restore", &[], BOTH, faults::power_cuts_in_a_restore),
    scenario("faults::a_reboot", &[], BOTH, faults::a_reboot),
    scenario("faults::a_sector_that_cannot_be_read", &[], BOTH, faults::a_sector_that_cannot_be_read),
    scenario("faults::a_disk_that_crawls", &[], BOTH, faults::a_disk_that_crawls),
    scenario("vault::a_volatile_cache_is_lost", &[], BOTH, vault::a_volatile_cache_is_lost),
    scenario("vault::bad_sectors_below_the_vault", &[V6_12], &[V6_1], vault::bad_sectors_below_the_vault),
    scenario("frozen::a_freeze_that_is_held_up", &[], BOTH, frozen::a_freeze_that_is_held_up),
    scenario("frozen::logs_on_what_is_frozen", &[], BOTH, frozen::logs_on_what_is_frozen),
    scenario("frozen::memory_pressure", &[], BOTH, frozen::memory_pressure),
    scenario("faults::a_holder_that_never_answers", &[], BOTH, faults::a_holder_that_never_answers),
];

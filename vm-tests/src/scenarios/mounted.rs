//! A snapshot that is mounted beside the disks that it is of, with LVM and md in it: the host's own
//! LVM, md, device mapper and udev must see nothing of it, whatever becomes of those who serve it.

use crate::disk::{Bus, Disk};
use crate::lab::{Lab, VAULT, good, new_vault, stillpoint};
use crate::machine::Machine;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// What the host has of devices, and what it knows of LVM, with all that its programs complain of.
const STATE: &str = "udevadm settle; \
    echo mapped; dmsetup table; echo loops; losetup --list --noheadings -O BACK-FILE; \
    echo physical; pvs --noheadings -o pv_name,pv_uuid,vg_name 2>&1; \
    echo logical; lvs --noheadings -a -o lv_full_name,lv_attr,devices 2>&1; \
    echo members; blkid -o device -t TYPE=LVM2_member | sort; \
    echo arrays; cat /proc/mdstat; echo mounts; grep -v ' /run/credentials' /proc/self/mounts; \
    echo processes; pgrep -xl 'stillpoint|mount-watch' || true";

/// Volumes on LVM and a mirror, mounted, copied from, proven and taken down.
pub fn lvm_and_md_beside_their_originals(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    new_vault(&mut guest, &lab.blank("vault", 900)?)?;
    let disks = [
        Disk::blank(&lab.dir, "first", 224, Bus::Virtio)?,
        Disk::blank(&lab.dir, "second", 224, Bus::Scsi)?,
    ];
    for disk in &disks {
        guest.plug(disk)?;
    }
    let [one, two] = [0, 1].map(|at| disks[at].path());
    guest.sh(&format!(
        "set -e; sgdisk -n 1:0:+160M -n 2 {two} >/dev/null; \
         sgdisk -n 1:0:+160M -n 2 {one} >/dev/null; udevadm settle; \
         mdadm --quiet --create /dev/md7 --run --assume-clean --level=1 --raid-devices=2 \
         {one}-part2 {two}-part2; udevadm settle; mkfs.ext4 -q /dev/md7; \
         mkdir -p /srv/mirror; mount /dev/md7 /srv/mirror; cp -a /usr/lib/udev /srv/mirror/; \
         pvcreate -q {one}-part1 {two}-part1; vgcreate -q vg-a {one}-part1 {two}-part1; \
         lvcreate -q -y -i 2 -l 20 -n striped vg-a; lvcreate -q -y -l 30 -n long vg-a; \
         lvcreate -q -y -L 8m -T vg-a/pool; lvcreate -q -y -V 32m -T vg-a/pool -n thin; \
         for one in striped long thin; do mkfs.ext4 -q -E lazy_itable_init=0 /dev/vg-a/$one; \
         mkdir -p /srv/$one; mount /dev/vg-a/$one /srv/$one; done; \
         cp -a /usr/lib/udev /srv/striped/; cp -a /usr/lib/systemd /srv/long/; \
         echo thin >/srv/thin/file; sync -f /srv/thin"
    ))?;
    let taken = good(&mut guest, &format!("snapshot {one} {two}"))?;
    let id = taken["snapshot"].as_str().context("no ID")?.to_owned();
    let before = guest.sh(STATE)?;
    seen(lab, &mut guest, &id, &before)?;
    killed(&mut guest, &id, &before)?;

    let proof = stillpoint(&mut guest, &format!("drill {id}"))?.1;
    let steps = proof["steps"].as_array().context("no steps")?;
    for name in ["vg-a/striped", "vg-a/long", "md/vm:7"] {
        let checked = steps
            .iter()
            .find(|step| step["what"] == format!("{name} (ext4): it is checked"));
        let outcome = checked.map(|step| &step["outcome"]);
        ensure!(outcome == Some(&Value::from("passed")), "{name}: {proof:#}");
    }
    ensure!(guest.sh(STATE)? == before, "a drill has left something");
    // Nothing has the disks open, and they are as they were.
    guest.sh(
        "umount /srv/striped /srv/long /srv/thin /srv/mirror && vgchange -q -an vg-a && \
         vgck vg-a && mdadm --quiet --stop /dev/md7",
    )?;
    guest.done();
    Ok(())
}

fn seen(lab: &Lab, guest: &mut Machine, id: &str, before: &str) -> Result<()> {
    guest.sh("mkdir -p /mnt/shot /root/copy; echo later >/srv/long/later")?;
    let (output, mounted) = stillpoint(guest, &format!("mount {id} /mnt/shot"))?;
    ensure!(
        output.code == 3,
        "the thin volume is not named: {mounted:#}"
    );
    let told = mounted["warnings"].to_string();
    ensure!(told.contains("thin provisioned"), "{mounted:#}");
    guest.sh(
        "diff -r --no-dereference /srv/striped /mnt/shot/fs/srv/striped && \
         diff -r --no-dereference /srv/mirror /mnt/shot/fs/srv/mirror && \
         rm /srv/long/later && diff -r --no-dereference /srv/long /mnt/shot/fs/srv/long",
    )?;
    if lab.broken {
        // What shows the host a label of LVM's.
        guest.sh("for one in /mnt/shot/raw/*.img; do losetup -f -r -P $one; done")?;
    }
    // Whatever wakes the host's LVM: it sees its own disks, and changes them.
    guest.sh(
        "set -e; udevadm trigger --settle -s block; pvscan -q --cache -aay; vgchange -q -ay; \
         lvcreate -q -y -l 1 -n another vg-a; lvremove -q -y vg-a/another",
    )?;
    let seen = guest.sh(
        "dmsetup table; pvs --noheadings -o pv_name 2>&1; blkid -o device -t TYPE=LVM2_member | sort",
    )?;
    for line in seen.lines() {
        ensure!(
            before.contains(line.trim()),
            "the host sees {line:?}\nbefore:\n{before}"
        );
    }
    good(
        guest,
        &format!("cp {id}:/srv/striped/udev/rules.d /root/copy"),
    )?;
    guest.sh("diff -r /srv/striped/udev/rules.d /root/copy/rules.d && rm -r /root/copy/rules.d")?;
    good(guest, "unmount /mnt/shot")?;
    let after = guest.sh(STATE)?;
    ensure!(after == before, "before:\n{before}\nafter:\n{after}");
    Ok(())
}

/// Ended at any moment, with the process that watches it and without.
fn killed(guest: &mut Machine, id: &str, before: &str) -> Result<()> {
    for (number, pause) in ["0.1", "0.3", "0.5", "0.8", "1.2", "2", "4"]
        .iter()
        .enumerate()
    {
        let whom = match number % 2 {
            0 => "stillpoint|mount-watch",
            _ => "stillpoint",
        };
        guest.sh(&format!(
            "export STILLPOINT_VAULT={VAULT}; \
             setsid stillpoint mount {id} /mnt/shot --foreground >/dev/null 2>&1 </dev/null & \
             sleep {pause}; pkill -9 -x '{whom}'; \
             for i in $(seq 100); do pgrep -x 'stillpoint|mount-watch' >/dev/null || break; \
             sleep 0.2; done; stillpoint unmount /mnt/shot >/dev/null 2>&1; \
             for i in $(seq 50); do losetup --list --noheadings | grep -q . || break; sleep 0.2; done"
        ))?;
        let after = guest.sh(STATE)?;
        ensure!(
            after == before,
            "after {pause} s:\n{before}\nafter:\n{after}"
        );
    }
    Ok(())
}

#!/usr/bin/env bash
# Makes the guests' root file system from Debian's packages, with the kernels 6.1, 6.12 and Debian's
# newest beside each other. Usage: root.sh OUT.tar ; it needs root, mmdebstrap and Debian's mirrors.
set -euo pipefail
out=$1
list=/etc/apt/sources.list.d/debian.sources
mirror=$(awk '/^URIs:/{print $2; exit}' $list 2>/dev/null || true)
mirror=${mirror:-http://deb.debian.org/debian}
key=/usr/share/keyrings/debian-archive-keyring.gpg

base=systemd-sysv,udev,dbus,kmod,initramfs-tools,zstd,procps,iproute2,util-linux-extra
base+=,qemu-guest-agent,grub2-common,grub-pc-bin,grub-efi-amd64-bin
disks=e2fsprogs,xfsprogs,btrfs-progs,dosfstools,lvm2,cryptsetup-initramfs,mdadm,fdisk,gdisk
disks+=,sg3-utils,fio,strace
work=mariadb-server,python3-minimal,sqlite3

# The initial RAM disk finds its root on whatever a scenario puts it: not the builder's devices.
setup='mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/etc/initramfs-tools/hooks"
printf "MODULES=list\nCOMPRESS=zstd\nCOMPRESSLEVEL=3\nFSTYPE=ext4\n" \
    >"$1/etc/initramfs-tools/conf.d/vm"
printf "#!/bin/sh\n[ \"\$1\" = prereqs ] && exit 0\n. /usr/share/initramfs-tools/hook-functions\nmanual_add_modules virtio_blk virtio_pci virtio_scsi virtio_console sd_mod nvme ext4 dm_mod dm_crypt raid1\n" \
    >"$1/etc/initramfs-tools/hooks/vm"
chmod +x "$1/etc/initramfs-tools/hooks/vm"
printf "CRYPTSETUP=y\n" >"$1/etc/initramfs-tools/conf.d/crypt"'

finish='set -e
echo vm >"$1/etc/hostname"
echo "127.0.0.1 localhost vm" >"$1/etc/hosts"
chroot "$1" passwd -d root
chroot "$1" systemctl mask getty@tty1.service getty-static.service \
    proc-sys-fs-binfmt_misc.automount modprobe@efi_pstore.service apt-daily.timer \
    apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service man-db.timer \
    dpkg-db-backup.timer fstrim.timer mdcheck_start.timer mdcheck_continue.timer \
    mdmonitor-oneshot.timer systemd-networkd-wait-online.service
chroot "$1" systemctl disable mariadb.service
chroot "$1" systemctl mask mariadb.socket mariadb-extra.socket
chroot "$1" systemctl enable serial-getty@ttyS0.service
chroot "$1" systemctl set-default multi-user.target
mkdir -p "$1/var/log/journal" "$1/srv/packages"
# A server that is small, has its data where a scenario mounts a disk, and starts by itself there.
cat >"$1/etc/mysql/mariadb.conf.d/99-vm.cnf" <<CNF
[mariadbd]
datadir=/srv/data/mysql
skip-networking
performance-schema=off
innodb-log-file-size=8M
innodb-buffer-pool-size=32M
CNF
mkdir -p "$1/etc/systemd/system/mariadb.service.d"
cat >"$1/etc/systemd/system/mariadb.service.d/vm.conf" <<UNIT
[Unit]
RequiresMountsFor=/srv/data
[Service]
ExecStartPre=
ExecStartPre=+/usr/bin/install -m 755 -o mysql -g root -d /run/mysqld
ExecStartPost=
TimeoutStartSec=900
UNIT
# What a scenario copies to such a disk.
rm -rf "$1/var/lib/mysql"
chroot "$1" mariadb-install-db --user=mysql --skip-test-db --innodb-log-file-size=8M \
    --auth-root-authentication-method=socket --datadir=/var/lib/mysql >&2
# What an administrator installs between two snapshots; guests have no network.
cd "$1/srv/packages" && chroot "$1" sh -c "cd /srv/packages && apt-get -q download jq libjq1 \
    libonig5 tree rsync libpopt0 bc unzip"'

# The newest kernel comes from Debian 13's backports in packages that Debian 12 cannot set up: they are
# unpacked, not installed.
newest='set -e
list="$1/etc/apt/sources.list.d/newest.list" pin="$1/etc/apt/preferences.d/newest"
echo "deb [signed-by=KEY] MIRROR trixie-backports main" >"$list"
printf "Package: *\nPin: release n=trixie-backports\nPin-Priority: 1\n" >"$pin"
chroot "$1" apt-get -q update >&2
version=$(chroot "$1" apt-cache search --names-only "^linux-image-7[.].*-cloud-amd64\$" |
    cut -d" " -f1 | sort -V | tail -n 1 | sed s/^linux-image-//)
[ -n "$version" ]
mkdir "$1/tmp/newest"
chroot "$1" sh -c "cd /tmp/newest && apt-get -q download linux-image-$version \
    linux-base-$version linux-binary-$version linux-modules-$version" >&2
for package in "$1"/tmp/newest/*.deb; do
    dpkg-deb -x "$package" "$1/tmp/newest/root"
done
modules=usr/lib/modules/$version
cp -a "$1/tmp/newest/root/$modules" "$1/usr/lib/modules/"
cp "$1/$modules/vmlinuz" "$1/boot/vmlinuz-$version"
cp "$1/$modules/config" "$1/boot/config-$version"
chroot "$1" depmod "$version"
chroot "$1" mkinitramfs -o "/boot/initrd.img-$version" "$version"
rm -r "$1/tmp/newest" "$list" "$pin"
chroot "$1" apt-get -q update >&2'
newest=${newest/KEY/$key}
newest=${newest/MIRROR/$mirror}

mmdebstrap --quiet --mode=root --format=tar --variant=minbase --include="$base,$disks,$work" \
    --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/mysql/*_*' \
    --dpkgopt='path-include=/usr/share/mysql/*.sql' --aptopt='Acquire::Languages "none"' \
    --essential-hook="$setup" \
    --customize-hook='chroot "$1" apt-get -q -y --no-install-recommends install $(
        for flavour in "6\\.1\\." "6\\.12\\."; do
            chroot "$1" apt-cache search --names-only \
                "^linux-image-${flavour}.*-cloud-amd64\$" | cut -d" " -f1 | sort -V | tail -n 1
        done)' \
    --customize-hook="$newest" \
    --customize-hook="$finish" \
    bookworm "$out.part" \
    "deb [signed-by=$key] $mirror bookworm main" \
    "deb [signed-by=$key] $mirror bookworm-updates main" \
    "deb [signed-by=$key] $mirror bookworm-backports main"
mv "$out.part" "$out"

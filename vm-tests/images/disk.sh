#!/usr/bin/env bash
# Makes a system disk as an instance has it: GPT, BIOS boot partition, ESP, swap, ext4 root; GRUB for
# BIOS and for UEFI. Usage: disk.sh ROOT.tar KERNEL LAYOUT OUT.raw ; KERNEL: 6.1, 6.12 or 7 for any 7.x;
# LAYOUT: plain, or lvm, which has /boot in a partition and the root in a logical volume. As root.
set -euo pipefail
tar=$1 kernel=$2 layout=$3 image=$4
PATH=$PATH:/usr/sbin:/sbin

truncate -s 2560M "$image.part"
boot_line=
[ "$layout" = plain ] || boot_line="size=100MiB, name=boot"
sfdisk -q "$image.part" <<TABLE
label: gpt
size=1MiB,   type=21686148-6449-6E6F-744E-656564454649, name=bios
size=48MiB,  type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=esp
size=128MiB, type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F, name=swap
$boot_line
type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name=root
TABLE
loop=$(losetup --find --show "$image.part")
root=$(mktemp -d "${TMPDIR:-/tmp}/stillpoint-vm-XXXXXX")
undo() {
    set +e
    for place in dev proc sys boot ''; do
        mountpoint -q "$root/$place" && umount "$root/$place"
    done
    [ -z "${inner:-}" ] || losetup -d "$inner"
    partx -d "$loop"
    losetup -d "$loop"
    rmdir "$root"
}
trap undo EXIT
# A kernel may have no parser for partition tables: losetup -P would not do.
partx -a "$loop"
for _ in $(seq 50); do
    [ -b "${loop}p4" ] && break
    sleep 0.1
done

mkfs.vfat -F 32 -n ESP "${loop}p2" >/dev/null
mkswap -q -L swap "${loop}p3"
inner=
if [ "$layout" = lvm ]; then
    # The builder's kernel may have no device mapper: the volume is written as metadata, and its
    # one extent is found where it says.
    only="devices { use_devicesfile=0 filter=[\"a|^${loop}p5\$|\",\"r|.*|\"] }"
    volume() {
        lvm "$@" --driverloaded n --nolocking --config "$only" >/dev/null 2>&1
    }
    volume pvcreate "${loop}p5"
    volume vgcreate system "${loop}p5"
    volume lvcreate -an -Zn -Wn -n root -l 100%FREE system
    inner=$(losetup --find --show --offset 1MiB "${loop}p5")
    mkfs.ext4 -q -L boot -E nodiscard "${loop}p4"
    # The last extent is left out: the device may have a part of one more than the volume.
    top=$inner name=/dev/mapper/system-root
    blocks=$(($(blockdev --getsz "$inner") / 8192 * 1024 - 1024))
else
    top=${loop}p4 name= blocks=
fi
boot=${loop}p4
# shellcheck disable=SC2086 # no number, no argument
mkfs.ext4 -q -b 4096 -L root -E lazy_itable_init=0,nodiscard "$top" $blocks
mount "$top" "$root"
if [ "$layout" = lvm ]; then
    mkdir "$root/boot"
    mount "$boot" "$root/boot"
fi
tar -C "$root" --numeric-owner --xattrs -xf "$tar"
# What is copied takes its time in a guest without hardware: no other kernel, no database's tools.
for modules in "$root"/lib/modules/*; do
    other=${modules##*/}
    [[ $other == "$kernel".* ]] || rm -rf "$root"/boot/*-"$other" "$modules"
done
(cd "$root/usr/bin" && rm -f aria_* myisam* innochecksum replace perror resolve_stack_dump \
    mysql* mariadb-{binlog,upgrade,dump,slap,check,import,show,conv,plugin,tzinfo-to-sql,waitpid})
mkdir -p "$root/boot/efi" "$root/boot/grub"
boot_id=$(blkid -s UUID -o value "$boot")
name=${name:-UUID=$boot_id}
kernels=/boot
cat >"$root/etc/fstab" <<FSTAB
$name / ext4 defaults 0 1
UUID=$(blkid -s UUID -o value "${loop}p3") none swap sw 0 0
UUID=$(blkid -s UUID -o value "${loop}p2") /boot/efi vfat defaults,nofail 0 2
FSTAB
if [ "$layout" = lvm ]; then
    echo "UUID=$boot_id /boot ext4 defaults 0 2" >>"$root/etc/fstab"
    kernels=
fi
version=$(cd "$root/boot" && echo vmlinuz-"$kernel".*)
version=${version#vmlinuz-}
# With one path to each NVMe disk, as clouds have it; QEMU's would be the head of a multipath.
cat >"$root/boot/grub/grub.cfg" <<GRUB
set timeout=0
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
search --no-floppy --fs-uuid --set=root $boot_id
linux $kernels/vmlinuz-$version root=$name ro console=ttyS0 mitigations=off nvme_core.multipath=N
initrd $kernels/initrd.img-$version
boot
GRUB

for place in dev proc sys; do
    mount --bind "/$place" "$root/$place"
done
chroot "$root" grub-install --target=i386-pc --no-floppy --modules="part_gpt ext2 biosdisk" \
    "$loop" 2>/dev/null
# The builder's kernel may have no vfat: the loader goes onto the ESP by mtools.
cat >"$root/tmp/early.cfg" <<EARLY
search --no-floppy --fs-uuid --set=root $boot_id
set prefix=(\$root)$kernels/grub
configfile $kernels/grub/grub.cfg
EARLY
chroot "$root" grub-mkimage -O x86_64-efi -p $kernels/grub -c /tmp/early.cfg -o /tmp/BOOTX64.EFI \
    part_gpt fat ext2 search search_fs_uuid configfile linux normal serial terminal boot echo
mmd -i "${loop}p2" ::/EFI ::/EFI/BOOT
mcopy -i "${loop}p2" "$root/tmp/BOOTX64.EFI" ::/EFI/BOOT/BOOTX64.EFI
rm "$root/tmp/early.cfg" "$root/tmp/BOOTX64.EFI"
sync -f "$root"
undo
trap - EXIT
mv "$image.part" "$image"

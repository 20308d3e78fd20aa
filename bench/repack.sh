#!/bin/sh
# Makes pairs of images that hold the files of the real corpus, packed otherwise. Needs root,
# e2fsprogs, squashfs-tools, rsync, 20 GB of disk, and some ten minutes.
#
#   bench/repack.sh DIR [IMAGES]
#
#   disk  an ext4 of 6 GiB with the files of A, updated in place to those of B
#   xz    a part of the files of A, and of B, as a squashfs with xz
#
# IMAGES is the directory that bench/corpus.sh filled, /var/tmp/corpus by default.
set -eu

[ $# -ge 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
images=$(cd "${2:-/var/tmp/corpus}" && pwd)
cd "$1"
set -- "$images"/*.img
[ $# = 3 ] || { echo "$0: $images has not the three images of bench/corpus.sh" >&2; exit 1; }
export LC_ALL=C PATH="$PATH:/sbin:/usr/sbin"
before=2023-06-10-120000-amd64.img after=2024-01-20-120000-amd64.img

rm -rf tree mnt disk-*.img xz-*.img
trap 'umount mnt 2>/dev/null || true; rm -rf tree mnt disk' EXIT
mkdir mnt
truncate -s 6G disk
mke2fs -q -F -t ext4 disk
for image in "$1" "$2"; do
	unsquashfs -q -n -d tree "$image" >/dev/null
	mount -o loop disk mnt
	rsync -aHX --delete --exclude lost+found tree/ mnt/
	umount mnt
	[ "$image" = "$1" ] && name=$before || name=$after
	cp --sparse=always disk "disk-$name"
	mksquashfs tree/usr/share tree/usr/lib/libreoffice tree/usr/lib/jvm tree/etc "xz-$name" \
		-comp xz -noappend -no-recovery -no-progress -quiet
	rm -rf tree
done
ls -ls ./*.img

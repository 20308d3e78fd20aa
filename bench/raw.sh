#!/bin/sh
# Makes the raw corpus: pairs of images that are no squashfs, of 12 GB, of which 1.3
# take space on the disk. Needs Go, e2fsprogs and xorriso, and some seconds; no root.
#
#   bench/raw.sh DIR [PERCENT]
#
#   ext4     a file system, its files replaced, added and removed in place
#   iso      an ISO 9660 of both states of the same files
#   records  a table of 16-byte records, in long stretches of one record
#   disk     a sparse disk image of 4.7 GiB, most of it zeros
#
# The images are the same each time, with the same versions of the tools. PERCENT
# makes them smaller, for tests.
set -eu

[ $# -ge 1 ] || { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }
bench=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
percent=${2:-100}
PATH=$PATH:/sbin:/usr/sbin
for pair in mke2fs:e2fsprogs debugfs:e2fsprogs xorriso:xorriso; do
	command -v "${pair%%:*}" >/dev/null || { echo "$0: ${pair%%:*} is not installed; install Debian's ${pair##*:}" >&2; exit 1; }
done
export LC_ALL=C TZ=UTC
before=2024-01-20-120000 after=2024-02-03-120000

rm -rf "$dir/trees"
trap 'rm -rf "$dir/trees"' EXIT
go -C "$bench" run ./internal/raw "$dir" "$percent"
cd "$dir/trees"

# Everything is written by debugfs, which unlike mke2fs -d takes no times from the
# trees, and works on the blocks of the file system without a mount.
fill() { # fill IMAGE SCRIPT
	debugfs -w -f "$2" "$1" 2>&1 >/dev/null | sed 1d >log # of its errors the first line is its version
	[ ! -s log ] || { cat log >&2; exit 1; }
}
E2FSPROGS_FAKE_TIME=1705752000 mke2fs -q -F -t ext4 -U 6b8b4567-327b-43c6-a43c-98696b8b4567 \
	-E hash_seed=327b23c6-643c-4869-8664-873474b0dc51,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0 \
	-m 0 ext4 "$((percent * 5 + 20))M" >/dev/null
fill ext4 make
cp --sparse=always ext4 "$dir/ext4-$before-amd64.img"
fill ext4 update
cp --sparse=always ext4 "$dir/ext4-$after-amd64.img"

iso() { # iso TREE IMAGE EPOCH: an image with the times of the files, and EPOCH for the rest
	SOURCE_DATE_EPOCH=$3 xorriso -as mkisofs -quiet -r -J -V RAW -o "$2" "$1" >log 2>&1 || { cat log >&2; exit 1; }
}
find a b -type d -exec touch -d @1705752000 {} +
rm -f "$dir"/iso-*.img
iso a "$dir/iso-$before-amd64.img" 1705752000
iso b "$dir/iso-$after-amd64.img" 1706961600
ls -ls "$dir"/*.img

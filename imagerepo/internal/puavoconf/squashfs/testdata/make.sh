#!/bin/sh
# Makes the images here from nothing but mksquashfs 4.5.1, awk and coreutils: one small tree, compressed by each
# method, and plain.img, in which nothing is compressed. Two runs give the same bytes.
set -eu
umask 022
unset SOURCE_DATE_EPOCH
cd "$(dirname "$0")"
out=$PWD
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree/d/empty" "$tree/e"
cd "$tree/d"
awk 'BEGIN { for (i = 0; i < 30; i++) printf "%d,", i * 7919 % 997 }' >tail                      # in a fragment
awk 'BEGIN { for (i = 0; i < 2200; i++) printf "%d,", i * 7919 % 997 }' >blocks                  # two blocks, and a tail
ln blocks again                                                                                  # an extended inode
truncate -s 9000 hole                                                                            # blocks of zeros
: >nothing
ln -s tail link
ln -s ../e/../d/./link up
ln -s there-and-back circle
ln -s circle there-and-back
ln -s /d/tail absolute
ln -s missing broken
mkfifo pipe
for method in plain gzip lzo xz lz4 zstd; do
	options="-comp $method"
	[ $method != plain ] || options="-noI -noD -noF"
	# shellcheck disable=SC2086
	mksquashfs "$tree" "$out/$method.img" -noappend -no-xattrs -all-root -mkfs-time 1600000000 -all-time 1600000000 \
		-processors 1 -no-progress -quiet -nopad -no-exports -always-use-fragments -b 4K $options
done

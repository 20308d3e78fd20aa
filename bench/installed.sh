#!/bin/sh
# What the installed client does to make an image, one command after the other.
# It runs in the directory of the images:
#
#   installed.sh URL META DELTA DELTA_SHA512 BASE TARGET TARGET_SHA512
#
# META and DELTA are paths below URL. What the installed client reads of the meta,
# names and digests, is given instead. Before the first step and after each, a
# line tells the machine's clock in seconds and the step.
set -eu
url=$1 meta=$2 delta=$3 delta_sha512=$4 base=$5 target=$6 target_sha512=$7
meta_file=${meta##*/} delta_file=${delta##*/}

after() {
	read -r now rest </proc/uptime
	echo "$now $1"
}
right() { # right SHA512 FILE
	printf '%s  %s\n' "$1" "$2" | sha512sum --check --status
}

after begin
wget -q -O "$meta_file" "$url/$meta"
wget -q -O "$delta_file" "$url/$delta"
after wget
right "$delta_sha512" "$delta_file"
after 'sha512sum of the delta'
rdiff patch "$base" "$delta_file" - >"$target.tmp"
after 'rdiff patch'
right "$target_sha512" "$target.tmp"
after 'sha512sum of the image'
sync "$target.tmp"
after sync
mv "$target.tmp" "$target"
rm "$meta_file" "$delta_file"

#!/bin/sh
# Makes the real corpus: three package states of one Debian desktop, packed as
# Puavo packs its images, each about 1 GB. Needs root, debootstrap,
# squashfs-tools, about 15 GB of disk, and half an hour.
#
#   bench/corpus.sh DIR [MIRROR [SECURITY_MIRROR]]
#
#   A  the release as published
#   B  A with its security updates       (a large change)
#   C  B with three more applications    (a small change)
#
# The Debian mirrors default to the ones this machine's apt uses. A state that
# is already in DIR is not made again.
set -eu

[ $# -ge 1 ] || { sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2; }
dir=$1
uri() { apt-get indextargets --format '$(REPO_URI) $(CODENAME)' | awk -v c="$1" '$2 == c { print $1; exit }'; }
suite=bookworm
mirror=${2:-$(uri $suite)}
security=${3:-$(uri $suite-security)}
[ -n "$mirror" ] && [ -n "$security" ] || { echo "$0: no mirror of $suite known; name it" >&2; exit 2; }
root=$dir/root
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

base='linux-image-amd64 systemd-sysv xserver-xorg xfce4 firefox-esr thunderbird libreoffice-writer libreoffice-calc libreoffice-impress gimp vlc evince fonts-noto-core cups python3 ruby openjdk-17-jre chromium'
apps='audacity inkscape gcompris-qt'

in_root() { chroot "$root" "$@"; }

pack() { # pack VERSION: the rootfs as an image with Puavo's options
	image=$dir/puavo-os-desktop-$suite-$1-amd64.img
	in_root apt-get -q clean
	rm -rf "$root"/var/lib/apt/lists/* "$root"/var/log/*.log "$root"/var/cache/apt/*.bin
	mkdir -p "$root/usr/share/puavo-conf/definitions"
	printf '{"puavo.image.release": {"default": "%s", "typehint": "string"}}\n' "$1" \
		>"$root/usr/share/puavo-conf/definitions/puavo-image.json"
	mksquashfs "$root" "$image.tmp" -noappend -no-recovery -no-sparse -wildcards -comp lzo \
		-no-progress -e 'proc/*' 'sys/*' 'dev/*' 'tmp/*' >/dev/null
	mv "$image.tmp" "$image"
	ls -l "$image"
}

mkdir -p "$dir"
trap 'umount "$root/proc" 2>/dev/null || true' EXIT
done_a=$dir/puavo-os-desktop-$suite-2023-06-10-120000-amd64.img
if [ ! -e "$done_a" ]; then
	rm -rf "$root"
	debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" "$mirror" >/dev/null
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
	chmod +x "$root/usr/sbin/policy-rc.d"
fi
cp /etc/resolv.conf "$root/etc/resolv.conf"
mount -t proc proc "$root/proc"
if [ ! -e "$done_a" ]; then
	echo "deb $mirror $suite main" >"$root/etc/apt/sources.list"
	in_root apt-get -q update >/dev/null
	in_root apt-get -q -y --no-install-recommends install $base >/dev/null
	pack 2023-06-10-120000
fi
if [ ! -e "$dir/puavo-os-desktop-$suite-2024-01-20-120000-amd64.img" ]; then
	echo "deb $security $suite-security main" >>"$root/etc/apt/sources.list"
	in_root apt-get -q update >/dev/null
	in_root apt-get -q -y --no-install-recommends dist-upgrade >/dev/null
	pack 2024-01-20-120000
fi
in_root apt-get -q update >/dev/null
in_root apt-get -q -y --no-install-recommends install $apps >/dev/null
pack 2024-02-03-120000
umount "$root/proc"
rm -rf "$root"

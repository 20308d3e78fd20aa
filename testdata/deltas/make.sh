#!/bin/sh
# Makes deltas/ (inputs and deltas) and signatures/ below the given directory (default: testdata) with the rdiff of this machine.
set -eu
export LC_ALL=C

mkdir -p "${1:-testdata}"
out=$(cd "${1:-testdata}" && pwd)
mkdir -p "$out/deltas" "$out/signatures"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
by=$(rdiff --version | sed -n '1s/.*librsync \([0-9.]*\).*/rdiff-\1/p')
cd "$out/deltas"

# noise SEED BYTES: bytes that repeat nowhere (Lehmer's generator, its top 8 bits).
noise() {
	awk -v x="$1" -v n="$2" 'BEGIN { for (i = 0; i < 8; i++) x = x * 16807 % 2147483647
		for (; n > 0; n--) { x = x * 16807 % 2147483647; printf "%c", int(x / 8388608) } }'
}

# take OFFSET COUNT: a range of the base.
take() { tail -c +$(($1 + 1)) base.bin | head -c "$2"; }

# delta NAME BASE TARGET [SIGNATURE OPTION...]
delta() {
	name=$1 base=$2 target=$3
	shift 3
	rdiff -f "$@" signature "$base" "$work/sig"
	rdiff -f delta "$work/sig" "$target" "$name.$by.delta"
}

# signature BASE HASH ROLLSUM BLOCK [SUM SIZE]
signature() {
	rdiff -f -H "$2" -R "$3" -b "$4" -S "${5:-0}" signature "$1.bin" "../signatures/$1.$2-$3-b$4-s${5:-max}.$by.sig"
}

noise 1 5000 >base.bin # no multiple of any block length: the last block is short
noise 2 1000 >unrelated.bin
: >empty.bin
{ # literals of 1, 63, 64 (0x01-0x40), 65, 255 (0x41), 256, 1500 (0x42) bytes between copies of all four small widths
	noise 3 1; take 0 64    # copy: offset 1 byte, length 1 byte (0x45)
	noise 4 63; take 64 320  # offset 1, length 2 (0x46)
	noise 5 64; take 1024 128 # offset 2, length 1 (0x49)
	noise 6 65; take 2048 1024 # offset 2, length 2 (0x4a)
	noise 7 255; take 2560 896 # 0x4a again, another offset
	noise 8 256; take 640 64 # backwards
	noise 9 1500; take 4032 968 # up to the end of the base, its short last block
} >mixed.bin

delta identical base.bin base.bin -b 64
delta unrelated base.bin unrelated.bin -b 64
delta mixed base.bin mixed.bin -b 64
delta mixed-md4-rollsum base.bin mixed.bin -b 64 -H md4 -R rollsum
delta mixed-b1024 base.bin mixed.bin -b 1024
delta reverse mixed.bin base.bin -b 64
delta to-empty base.bin empty.bin -b 64
delta from-empty empty.bin unrelated.bin -b 64
delta empty-to-empty empty.bin empty.bin -b 64

for hash in blake2 md4; do
	for roll in rabinkarp rollsum; do
		for block in 128 512 2048; do signature base $hash $roll $block; done
		signature base $hash $roll 512 8
		signature empty $hash $roll 128
	done
done

#!/bin/sh
# Makes images/, compression/ and badimages/ below the given directory (default: testdata) from nothing but
# mksquashfs, awk and coreutils. Two runs with one mksquashfs version give identical bytes.
set -eu
umask 022
export LC_ALL=C
unset SOURCE_DATE_EPOCH # mksquashfs refuses it beside -mkfs-time

mkdir -p "${1:-testdata}"
out=$(cd "${1:-testdata}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$out/images" "$out/compression" "$out/badimages" "$work/tree"
cd "$work/tree"
defs=usr/share/puavo-conf/definitions
late=buster-2022-02-04-140532-amd64.img

# image FILE [DIR] [COMPRESSOR]: the tree in DIR as a squashfs.
image() {
	mksquashfs "${2:-.}" "$out/$1" -noappend -no-recovery -no-sparse -comp "${3:-lzo}" -no-xattrs -all-root \
		-mkfs-time 1600000000 -all-time 1600000000 -processors 1 -no-progress -quiet
}

# noise SEED BYTES: bytes that no compressor shrinks (Lehmer's generator, its top 8 bits).
noise() {
	awk -v x="$1" -v n="$2" 'BEGIN { for (i = 0; i < 8; i++) x = x * 16807 % 2147483647
		for (; n > 0; n--) { x = x * 16807 % 2147483647; printf "%c", int(x / 8388608) } }'
}

# prose SEED LINES: lines of made-up words, shrinks to about a half.
prose() {
	awk -v x="$1" -v n="$2" 'function roll(m) { x = x * 16807 % 2147483647; return int(x / 2147483647 * m) + 1 }
		BEGIN { k = split("ka lo mi ne su ta ri vo pe hu ja no", s, " "); for (i = 0; i < 8; i++) roll(1)
			while (n-- > 0) { for (w = 4 + roll(9); w > 0; w--) { for (c = roll(4); c > 0; c--) printf "%s", s[roll(k)]
				printf "%s", w > 1 ? " " : ".\n" } } }'
}

# put FILE: standard input as FILE, with its directories.
put() { mkdir -p "$(dirname "$1")"; cat >"$1"; }

# splice FILE OFFSET COUNT: replace COUNT bytes at OFFSET by standard input.
splice() {
	{ head -c "$2" "$1"; cat; tail -c +$(($2 + $3 + 1)) "$1"; } >"$work/spliced"
	cat "$work/spliced" >"$1"
}

release() { printf 'NAME="Puavo OS"\nVERSION_ID="%s"\nIMAGE="%s"\n' "$2" "puavo-os-$1-buster-$2-amd64" | put etc/os-release; }

# --- images/: four versions of one series and one image of a second series that shares most of its content

first() {
	release amxa 2021-04-13-192449
	noise 11 60000 | put boot/vmlinuz
	noise 12 150000 | put usr/lib/libcanvas.so.4
	noise 13 40000 | put usr/lib/libink.so.1
	noise 14 20000 | put usr/bin/paint
	noise 15 9000 | put usr/bin/tally
	ln -sf paint usr/bin/draw
	for i in 1 2 3 4 5 6 7 8; do prose $((20 + i)) $((40 * i)) | put "usr/share/doc/handbook/chapter-$i.txt"; done
	i=0
	while [ $i -lt 300 ]; do # more names than one squashfs directory header holds (256)
		printf 'icon %d of the set\n' $i | put "usr/share/icons/plain/$(printf 'shape-%03d.svg' $i)"
		i=$((i + 1))
	done
	echo 'Only files that end in .json count here.' | put $defs/README
	put $defs/display.json <<-'END'
		{
		  "puavo.display.night_tint": {"default": "false", "description": "Warm the colours after sunset", "typehint": "bool"},
		  "puavo.display.dim_after": {"default": "600", "description": "Seconds of rest until the screen dims; 0 < n & n < 86400", "typehint": "number"}
		}
	END
	put $defs/greeting.json <<-'END'
		{
		  "puavo.greeting.text": {
		    "default": "Hyvää päivää, <b>Ärla & Öyvind</b>!",
		    "description": "Shown above the login box – \"plain\" text, no HTML; 日本語 and 🐧 work too",
		    "typehint": "string"
		  },
		  "puavo.greeting.enabled": {"typehint": "bool", "description": "Show it at all", "default": "true"}
		}
	END
}

second() { # minutes later: one repaired library, one typo
	release amxa 2021-04-13-193910
	noise 31 40000 | put usr/lib/libink.so.1
	noise 32 700 | splice usr/lib/libcanvas.so.4 50000 700
	echo 'One more line.' | splice usr/share/doc/handbook/chapter-5.txt 4000 0
}

third() { # months later: a kernel, changed, inserted, moved and removed content, a third file of definitions
	release amxa 2022-01-17-120001
	noise 41 64000 | put boot/vmlinuz
	noise 42 1234 | splice usr/lib/libcanvas.so.4 7001 0
	noise 43 30000 | splice usr/lib/libcanvas.so.4 90000 25000
	mkdir -p usr/libexec
	mv usr/bin/paint usr/libexec/paint-real
	printf '#!/bin/sh\nexec /usr/libexec/paint-real "$@"\n' | put usr/bin/paint
	rm usr/bin/tally usr/share/doc/handbook/chapter-2.txt usr/share/icons/plain/shape-1?7.svg
	prose 44 300 | put usr/share/doc/handbook/appendix.txt
	prose 45 3 | splice usr/share/doc/handbook/chapter-8.txt 9000 500
	put $defs/zones.json <<-'END'
		{
		  "puavo.zones.rooms": {
		    "default": {"names": ["Käytävä", "A<1>", "B&B"], "limits": {"least": 0, "most": 4294967296, "share": 0.75}, "spare": null},
		    "description": "Rooms of the building\nand how many sit in each",
		    "typehint": "string",
		    "choices": [{"value": "open", "tags": []}, {"value": "shut", "tags": ["t\u00e4nään", "\u2028"]}]
		  },
		  "puavo.zones.empty": {"default": "", "description": "", "typehint": "string"}
		}
	END
}

fourth() { # days later: a new default, a library that grew at both ends
	release amxa 2022-01-20-173248
	noise 51 5000 | splice usr/lib/libink.so.1 0 0
	noise 52 20000 >>usr/lib/libink.so.1
	noise 53 35000 | splice usr/lib/libcanvas.so.4 120001 20000
	prose 54 40 | put usr/share/doc/handbook/chapter-1.txt
	put $defs/display.json <<-'END'
		{
		  "puavo.display.dim_after": {"default": "900", "description": "Seconds of rest until the screen dims; 0 < n & n < 86400", "typehint": "number"},
		  "puavo.display.night_tint": {"default": "true", "description": "Warm the colours after sunset", "typehint": "bool"},
		  "puavo.display.scale": {"default": 1, "description": "Size of all things, 1 ≤ n ≤ 3", "typehint": "number"}
		}
	END
}

free() { # the other series: another kernel, half of the handbook, a letter, two files of definitions
	release free 2022-02-04-140532
	noise 61 50000 | put boot/vmlinuz
	rm usr/share/doc/handbook/chapter-[678].txt $defs/greeting.json
	prose 62 500 | put usr/share/doc/freedom/letter.txt
}

first; image images/puavo-os-amxa-buster-2021-04-13-192449-amd64.img
second; image images/puavo-os-amxa-buster-2021-04-13-193910-amd64.img
third; image images/puavo-os-amxa-buster-2022-01-17-120001-amd64.img
fourth; image images/puavo-os-amxa-buster-2022-01-20-173248-amd64.img
free; image images/puavo-os-free-$late

# --- compression/: one small tree with definitions, by each compressor

small=$work/small
noise 71 9000 | put "$small/usr/bin/tool"
prose 72 150 | put "$small/usr/share/doc/tool.txt"
mkdir -p "$small/$defs"
cp $defs/*.json "$small/$defs"
for c in gzip xz zstd lzo lz4; do image compression/puavo-os-$c-$late "$small" $c; done

# --- badimages/: what is wrong is the word after puavo-os-

bad=$work/bad
mkdir -p "$bad/$defs"
echo '{"puavo.a.b": {"default": "1"}, "puavo.twice.defined": {"default": "left"}}' >"$bad/$defs/a.json"
echo '{"puavo.twice.defined": {"default": "right"}, "puavo.z.y": {"default": "2"}}' >"$bad/$defs/b.json"
image badimages/puavo-os-twice-$late "$bad"
echo '{"puavo.broken.off": {"default": "1"' >"$bad/$defs/b.json"
image badimages/puavo-os-nojson-$late "$bad"
echo '[{"puavo.in.array": {"default": "1"}}]' >"$bad/$defs/b.json"
image badimages/puavo-os-array-$late "$bad"
rm -r "${bad:?}/usr/share/puavo-conf"
echo 'no definitions here' >"$bad/usr/share/note.txt"
image badimages/puavo-os-nodefs-$late "$bad"
: >"$out/badimages/puavo-os-empty-$late"
echo 'This is no squashfs.' >"$out/badimages/puavo-os-text-$late"
head -c 6000 "$out/compression/puavo-os-lzo-$late" >"$out/badimages/puavo-os-cut-$late" # superblock and some data, no tables

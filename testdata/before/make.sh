#!/bin/sh
# Makes mirror/, keys/, client/, interrupted/ and metrics.prom below testdata/before, or below another directory, with the
# binaries in OLD: sh testdata/before/make.sh OLD [DIR]. What else is in testdata/before is written by hand. Needs nginx, and
# two file systems: /srv and /dev/shm. Each run has its own keys, times and inodes, so no two runs give the same bytes.
set -eu
umask 022
export LC_ALL=C

old=$(cd "$1" && pwd)
here=$(cd testdata/before && pwd)
mkdir -p "${2:-$here}"
out=$(cd "${2:-$here}" && pwd)
work=/srv/before # so that what remembers a path tells none of a machine's
elsewhere=/dev/shm/before
mkdir "$work" "$elsewhere"
trap 'kill $(cat "$work/nginx/pid" 2>/dev/null) 2>/dev/null || :; rm -rf "$work" "$elsewhere"' EXIT
trap 'exit 1' HUP INT TERM
cp -R testdata/images testdata/compression "$here/passphrase" "$here/config" "$work"
cd "$work"
mkdir puavo-os-images client interrupted nginx

of=-buster-2022-02-04-140532-amd64.img
amxa=puavo-os-amxa-buster
second=$amxa-2021-04-13-193910-amd64.img
third=$amxa-2022-01-17-120001-amd64.img
fourth=$amxa-2022-01-20-173248-amd64.img
long=puavo-os-long-buster
long1=$long-2022-03-01-000000-amd64.img
long2=$long-2022-03-02-000000-amd64.img
long3=$long-2022-03-03-000000-amd64.img
tried=puavo-os-test-buster-2022-02-28-000000-amd64.img

# joined FILE...: these images one after the other, on standard output.
joined() { (cd images && for f; do if [ -e "$f" ]; then cat "$f"; else cat "../compression/$f"; fi; done); }

joined $third $fourth puavo-os-lzo$of >puavo-os-images/$long1
joined $third $fourth $fourth >$elsewhere/$long2
ln -s $elsewhere/$long2 puavo-os-images/$long2

# --- keys/: those of keys init, and another timestamp key since the first run

expire='--expire-root 10000d --expire-targets 10000d --expire-snapshot 10000d --expire-timestamp 10000d'
"$old/puavo-update-repository" keys init --passphrase-file passphrase --expire-root 10000d keys

# --- mirror/: two runs. Between them, long1 left, and all others came.

build() {
	"$old/puavo-update-repository" --keep-signatures --grace 10000d --repository https://images.example.org --max-delta-ratio 0.3 \
		--sign-keys keys --passphrase-file passphrase $expire --metrics-file metrics.prom "$@" puavo-os-images mirror
}

build
"$old/puavo-update-repository" keys rotate --passphrase-file passphrase --expire-root 10000d timestamp keys
rm puavo-os-images/$long1
cp images/$second images/$third images/$fourth puavo-os-images
joined $third $fourth $fourth puavo-os-gzip$of >puavo-os-images/$long3
joined $third $fourth >puavo-os-images/$tried
sleep 1 # so that the numbers of the signed metadata, which are seconds, differ
build --config config/amxa.json --config config/long.json

# --- client/: from the third image to the fourth; interrupted/: killed on the way from long2 to long3

cat >nginx/conf <<-END
	user root;
	pid pid;
	events {}
	http {
		access_log off;
		default_type application/octet-stream;
		server {
			listen 127.0.0.1:18080;
			root $work/mirror;
			location ~ /$long.*rdiff$ { limit_rate 2k; }
		}
	}
END
nginx -p nginx -e error.log -c conf
export http_proxy=http://127.0.0.1:18080

update() {
	"$old/puavo-update-image" --mirror http://images.example.org --trust keys/1.root.json --default-link ltsp.img --images-dir "$@"
}

cp images/$third client
ln client/$third client/ltsp.img
update client

cp $elsewhere/$long2 interrupted
ln interrupted/$long2 interrupted/ltsp.img
update interrupted &
for _ in $(seq 300); do
	[ -e interrupted/$long3.tmp.journal ] && break
	sleep 0.1
done
kill -9 $!
wait || :
cmp -n 1048576 interrupted/$long3.tmp puavo-os-images/$long3
[ "$(stat -c %s interrupted/$long3.tmp)" = 1048576 ] # so it can be made of the images again

# --- without the images, and without what cannot be taken elsewhere

rm mirror/.repo/lock
find mirror client interrupted -name '*.img' -delete
rm interrupted/$long3.tmp
find mirror -type d -empty -delete
for fixture in mirror keys client interrupted metrics.prom; do
	rm -rf "${out:?}/$fixture"
	cp -R $fixture "$out"
done

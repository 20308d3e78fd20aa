// Package meta holds the nouns of an image repository and their strict
// parsers: the name of an image, the files a mirror offers, and the JSON
// documents that describe them. Whatever comes from a file or the network
// becomes a path only through this package.
//
// # Names
//
// An image is named <prefix>-<version>-<arch>.img and the delta between two
// images of one prefix and architecture takes both versions:
//
//	puavo-os-amxa-buster-2022-01-20-173248-amd64.img
//	puavo-os-amxa-buster-2022-01-17-120001--2022-01-20-173248-amd64.rdiff
//
// A compact delta is named as the delta, but ends with .cdelta; one that needs no base is
// named as the image, but ends with .cdelta.
//
// The version is a date and time, YYYY-MM-DD-hhmmss; in JSON it is its 14 digits. In
// documents any digits are taken: earlier versions of the tools published them.
//
// # meta/<series>.json
//
// One document a series, read by installed clients with jq's
// '.[][][] | select(has("filename"))' and in Ruby:
//
//	{"<series>": {"images": [{
//	  "diffs": [{
//	    "filename": "<delta>", "urls": ["<base>/rdiffs/<delta>"],
//	    "version": "<14 digits of the base's version>", "size": 1234,
//	    "cksum": "…", "sha256": "…", "sha512": "…", "blake3": "…"}],
//	  "filename": "<image>", "id": "<image without .img>",
//	  "puavo-conf": {…}, "size": 12345, "urls": ["<base>/<image>"],
//	  "version": "<14 digits>",
//	  "cksum": "…", "sha256": "…", "sha512": "…", "blake3": "…",
//	  "compact": [{
//	    "filename": "<compact delta>", "format": "1", "memory": 116710080,
//	    "urls": ["<base>/compact/<compact delta>"],
//	    "version": "<14 digits of the base's version>", "size": 123,
//	    "work": {"coded": 339654462, "unpacked": 1070287870},
//	    "cksum": "…", "sha256": "…", "sha512": "…", "blake3": "…"}]}]}}
//
// Images are sorted, oldest first. size, memory and work are numbers of bytes, everything else a
// string: cksum the decimal CRC of POSIX cksum(1), the others lower-case
// hexadecimal. blake3 is this project's addition and may be missing, like cksum and
// sha256, and so is compact, which only images with compact deltas have. A compact delta
// without a version needs no base. An entry whose format is not known is skipped, whatever
// its other members are. Unknown keys are ignored. The same Series always encodes to the same
// bytes.
//
// # index.json
//
// The series of the mirror, which a static host cannot list:
//
//	{"series": [{"name": "…", "meta": "meta/<name>.json",
//	             "images": 4, "newest": "<image>"}]}
//
// # Series files
//
// An administrator can say which images form a series, in either of two forms:
//
//	{"<series>": ["<image>", …]}
//	{"<series>": {"images": ["<image>", …],
//	              "extra_rdiffs": {"<target image>": ["<base image>", …]}}}
//
// Other keys, and duplicate keys, are errors.
package meta

// Package mirror is the tree of a mirror: where things lie in it, which of them
// are the tool's own, and the lock under which it is changed. The documentation
// of package imagerepo lists the tree.
package mirror

import (
	"path"

	"puavo-image-repository/meta"
)

// Where things lie in a mirror.
const (
	Index      = "index.json"
	CKSUMS     = "CKSUMS"
	SHA256     = "SHA256SUMS"
	DeltaDir   = "rdiffs"
	MetaDir    = "meta"
	TUF        = "tuf"   // signed metadata, see package trust
	Private    = ".repo" // what is in it is not to be uploaded
	Lock       = Private + "/lock"
	StateDir   = Private + "/state"
	signatures = Private + "/signatures"
	tmp        = Private + "/tmp"
)

// TmpPath returns where a file of that name is written, before it gets its place.
func TmpPath(name string) string { return tmp + "/" + name }

// SignaturePath returns where the signature of an image lies.
func SignaturePath(n meta.Name) string { return signatures + "/" + n.String() + ".sig" }

// PathOf returns where the image, the delta or the meta of that name lies.
func PathOf(name string) string {
	switch path.Ext(name) {
	case ".rdiff":
		return meta.DeltaPath(name)
	case ".json":
		return MetaDir + "/" + name
	default:
		return name
	}
}

// IsOurName reports whether the tool may have given a file that name.
func IsOurName(name string) bool {
	var err error
	switch path.Ext(name) {
	case ".img":
		_, err = meta.ParseName(name)
	case ".rdiff":
		_, _, err = meta.ParseDeltaName(name)
	case ".json":
		_, err = meta.ParseSeriesName(name[:len(name)-len(".json")])
	default:
		return false
	}
	return err == nil
}

package audit

import "testing"

// Signed metadata is not held against anything here, and is no orphan; a file of its
// name is one.
func TestSignedMetadata(t *testing.T) {
	p := newPlace(t)
	p.write("tuf/timestamp.json", []byte("x"))
	p.write("tuf/targets/meta/x.json", []byte("x"))
	expect(t, p.verify(false).Findings, nil)
	p.remove("tuf")
	p.write("tuf", []byte("x"))
	expect(t, p.verify(false).Findings, [][3]string{{"orphan", "tuf", "nothing names it"}})
}

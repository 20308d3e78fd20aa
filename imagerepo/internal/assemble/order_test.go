package assemble

import (
	"slices"
	"testing"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/meta"
)

// What is made of an image is on the disk before the journal that tells of it.
func TestJournalComesLater(t *testing.T) {
	path := t.TempDir()
	var changes []string
	stop := atomicfile.Observe(path, func(c atomicfile.Change) error {
		changes = append(changes, c.String())
		return nil
	})
	defer stop()
	dir, err := atomicfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	n, err := meta.ParseName("os-2022-02-02-000000-amd64.img")
	if err != nil {
		t.Fatal(err)
	}
	p := &attempt{Job: Job{Dir: dir, Image: n}}
	if p.partial, err = dir.Begin(PartialName(n), n.String()); err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if _, err := p.partial.Write([]byte("some of it")); err != nil {
		t.Fatal(err)
	}
	if err := p.save(journal{point: point{Position: delta.Position{Target: 10}}}); err != nil {
		t.Fatal(err)
	}
	tmp, entry := PartialName(n), JournalName(n)
	want := []string{"create " + tmp, "write " + tmp, "flush " + tmp, "create " + entry + ".new", "write " + entry + ".new",
		"flush " + entry + ".new", "rename " + entry + ".new to " + entry, "flush dir ."}
	if !slices.Equal(changes, want) {
		t.Errorf("%q, want %q", changes, want)
	}
}

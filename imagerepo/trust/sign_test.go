package trust

import "testing"

func TestSmoke(t *testing.T) {
	p := newPlace(t)
	if !p.sign() {
		t.Error("nothing changed")
	}
	t.Log(p.tuf())
	if p.sign() {
		t.Error("changed")
	}
	if err := p.newClient().upToDate(); err != nil {
		t.Error(err)
	}
}

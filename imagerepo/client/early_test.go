package client_test

import (
	"net/http"
	"sync/atomic"
	"testing"

	"puavo-image-repository/imagerepo/client"
)

// A run that brings hardly anything, over a network that breaks whatever is
// fetched, takes nothing away of what an earlier run has brought.
func TestCutEarly(t *testing.T) {
	buildMirrors()
	n := newNginx(t, mirrorDir("huge"))
	file := deltaFile(huge1, huge2)
	for _, c := range []struct {
		name  string
		spoil spoil // of all that is fetched by the second run
	}{
		{"reset at once", (*exchange).reset},
		{"503", refuse(http.StatusServiceUnavailable)},
		{"cut amid the header", cutInHead},
		{"cut before the body", cutAfter(0)},
		{"cut soon", cutAfter(100_000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, huge1)
			var runs atomic.Int32
			x := newProxy(t, n, func(x *exchange) {
				[]spoil{cutAfter(15 << 20), c.spoil, (*exchange).pass}[runs.Load()](x)
			})
			o := p.options(x.URL, huge2)
			o.Patience.Attempts = 1
			for ; runs.Load() < 2; runs.Add(1) {
				if _, err := client.Update(t.Context(), o); err == nil {
					t.Fatal("not cut off")
				}
				x.handed(file) // all has ended
			}
			if _, err := client.Update(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			p.want(made([]string{huge1}, huge2))
			x.wantOnce(file, betweenMarks)
		})
	}
}

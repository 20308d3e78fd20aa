package client_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/testdata"
)

const (
	tiny1 = "puavo-os-tiny-buster-2022-03-01-000000-amd64.img"
	tiny2 = "puavo-os-tiny-buster-2022-03-02-000000-amd64.img"
)

// tiny returns images of 64 KiB, with a delta of half as much.
func tiny() map[string][]byte {
	data := random(96 << 10)
	return map[string][]byte{tiny1: data[:64<<10], tiny2: slices.Concat(data[64<<10:], data[:32<<10])}
}

// A thousand clients, in the short tests a hundred, at once are served by one nginx, half of them with a delta
// and half with the full image, each with one request for the meta and one for
// that file.
func TestThousand(t *testing.T) {
	clients := testdata.Scale(1000, 100)
	moreFiles(t, uint64(16*clients))
	images := tiny()
	n := newNginx(t, newMirror(t, images))
	begin := make(chan struct{})
	var all sync.WaitGroup
	for i := range clients {
		p := newPlace(t)
		want := map[string]string{tiny2: string(images[tiny2])}
		if i%2 == 0 {
			p.write(tiny1, images[tiny1])
			want[tiny1] = string(images[tiny1])
		}
		all.Go(func() {
			<-begin
			o := p.options(n.url, tiny2)
			o.Patience.Stall = time.Minute // one of many may wait for its turn
			if _, err := client.Update(t.Context(), o); err != nil {
				t.Errorf("client %d: %v", i, err)
				return
			}
			p.want(want)
		})
	}
	close(begin)
	all.Wait()
	served := make(map[string]int)
	for _, s := range n.served() {
		if served[s.path]++; s.status != http.StatusOK {
			t.Errorf("served %+v", s)
		}
		if strings.HasSuffix(s.path, ".json") {
			served["meta"]++
		}
	}
	if delta := deltaFile(tiny1, tiny2); served[delta] != clients/2 || served[tiny2] != clients/2 || served["meta"] > clients {
		t.Errorf("%d clients made the requests %v", clients, served)
	}
}

// moreFiles sees to it that so many files can be open.
func moreFiles(t *testing.T, want uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur >= want {
		return
	}
	more := syscall.Rlimit{Cur: want, Max: max(limit.Max, want)}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more); err != nil {
		t.Fatalf("%d files may be open, the test needs %d: %v", limit.Cur, want, err)
	}
	t.Cleanup(func() { syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) })
}

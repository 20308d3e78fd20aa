package client_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/testdata"
)

// clearUp is a hook of which a process in the background takes its time to end, and
// then tries to take the lock.
const clearUp = `sh -c 'trap "sleep 0.2; flock -n $1 echo free || echo held; exit" TERM
	echo ready
	while test $((n += 1)) -lt 1000; do sleep 0.01; done' sh "${1%/*}/` + lockFile + `" & wait; :`

// The lock is held until all processes of a hook that is interrupted have ended.
func TestInterruptedHook(t *testing.T) {
	t.Parallel()
	testdata.Tool(t, "flock")
	for flag, set := range map[string]func(o *client.Options){
		"--pre-install":  func(o *client.Options) { o.PreInstall = clearUp },
		"--post-install": func(o *client.Options) { o.PostInstall = clearUp },
	} {
		p := newPlace(t, image3)
		o := p.options(access["directory"](t, "all"), "")
		set(&o)
		output := filepath.Join(t.TempDir(), "output")
		file := must(os.Create(output))
		defer file.Close()
		o.HookOutput = file
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for !bytes.Contains(must(os.ReadFile(output)), []byte("ready")) && t.Context().Err() == nil {
				time.Sleep(10 * time.Millisecond)
			}
			cancel()
		}()
		if _, err := client.Update(ctx, o); err != context.Canceled {
			t.Errorf("%s: %v", flag, err)
		}
		if got := string(must(os.ReadFile(output))); !strings.Contains(got, "held") || strings.Contains(got, "free") {
			t.Errorf("%s: it prints %q", flag, got)
		}
		lock, err := lockfile.Acquire(p.dir, lockFile)
		if err != nil {
			t.Fatalf("%s: %v", flag, err)
		}
		lock.Release()
		if result, err := p.update(o.Mirrors[0], ""); err != nil || result.UpToDate {
			t.Errorf("%s: then %+v, %v", flag, result, err)
		}
	}
}

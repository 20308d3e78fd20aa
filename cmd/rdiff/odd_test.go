package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/testdata"
)

// A pipe is waited at, as rdiff(1) does, but not after a signal: neither for its other
// end nor for what that writes.
func TestPipeCancelled(t *testing.T) {
	testdata.Tool(t, "rdiff")
	inputs(t)
	for _, line := range []string{"s pipe o", "d pipe new o", "d sig pipe o", "p pipe delta o", "p base pipe o", "diff pipe new o", "diff base pipe o", "info pipe", "-f s base pipe"} {
		for what, open := range map[string]func() (*os.File, error){
			"nobody":               func() (*os.File, error) { return nil, nil },
			"somebody who is mute": func() (*os.File, error) { return os.OpenFile("pipe", os.O_RDWR, 0) },
		} {
			isOutput := strings.HasPrefix(line, "-f")
			if isOutput && what != "nobody" {
				continue // it is written to
			}
			if err := testdata.PutOdd("pipe", "pipe"); err != nil { // another one: nothing ends who waits at the last
				t.Fatal(err)
			}
			other, err := open()
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(20*time.Millisecond, cancel)
			testdata.Promptly(t, line+", "+what+" has the other end", func() {
				if code, out, stderr := ours(t, ctx, strings.Fields(line), nil); code != interrupted || out != "" || stderr != "rdiff: interrupted\n" {
					t.Errorf("%q, %s has the other end: exit code %d, %q, %q", line, what, code, out, stderr)
				}
			})
			other.Close()
			if _, err := os.Stat("o"); err == nil {
				t.Errorf("%q: there is an output", line)
			}
		}
	}
}

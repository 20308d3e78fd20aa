package hook

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// What a hook receives, prints and ends with.
func TestRun(t *testing.T) {
	const image = "/images/an image.img"
	for _, c := range []struct {
		name, command string
		cancelled     bool
		code          int // that the error has, 0 for none
		prints        string
	}{
		{"the path", `printf '%s|' "$1" "$PUAVO_IMAGE"`, false, 0, strings.Repeat(image+"|", 3)},
		{"both outputs", "echo out; echo error >&2 ;", false, 0, "out\nerror " + image + "\n"},
		{"no input", "cat; echo >&1", false, 0, image + "\n"},
		{"failing", "echo failing; exit 3", false, 3, "failing\n"},
		{"unknown", "./none 2>/dev/null", false, 127, ""},
		{"killed", "kill -KILL $$; :", false, -1, ""},
		{"cancelled before", "echo", true, 0, ""},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		if c.cancelled {
			cancel()
		}
		var out bytes.Buffer
		err := Run(ctx, c.command, image, &out)
		code := 0
		if exit, failed := errors.AsType[*exec.ExitError](err); failed {
			code = exit.ExitCode()
		} else if err != ctx.Err() {
			t.Errorf("%s: %v", c.name, err)
		}
		if code != c.code || out.String() != c.prints {
			t.Errorf("%s: %v, want the code %d; it prints %q, want %q", c.name, err, c.code, &out, c.prints)
		}
		cancel()
	}
	if err := Run(t.Context(), "echo", image, nil); err != nil {
		t.Errorf("without an output: %v", err)
	}
}

package main

import (
	"encoding"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/imagerepo/client"
)

// apply makes one image offline.
func apply(c *cli.Context, con console) error {
	o := client.ApplyOptions{
		Base: c.String("base"), Deltas: c.StringSlice("delta"), Out: c.String("out"),
		Progress: func(done, total int64) {
			con.screen.Progress(done, total)
			con.screen.Stage("image_patch", filepath.Base(c.String("out")), done, total)
		},
	}
	switch {
	case c.NArg() > 0:
		return command.Usage("unknown argument %q", c.Args().First())
	case len(o.Deltas) == 0 || o.Out == "" || o.Base == "" && !client.IsCompact(o.Deltas[0]):
		return command.Usage("--base, --delta and --out are needed")
	}
	given, err := parseDigests(c, map[string]encoding.TextUnmarshaler{"blake3": &o.BLAKE3, "sha256": &o.SHA256, "sha512": &o.SHA512})
	if err != nil {
		return err
	}
	compared := given
	if client.IsCompact(o.Deltas[len(o.Deltas)-1]) && !c.IsSet("blake3") {
		compared = append(compared, "blake3")
	}
	if len(compared) == 0 && !c.Bool("unverified") {
		return command.Usage("nothing to check the new image against; give --blake3, --sha256 or --sha512, or else --unverified")
	}
	syscall.Umask(umask) // the new image is the caller's own
	err = client.Apply(c.Context, o)
	con.screen.Done()
	if err != nil {
		return err
	}
	return con.print(c, applied{o.Out, compared}, fmt.Sprintf("Made %s.\n", o.Out))
}

// applied is what apply has done, for programs.
type applied struct {
	Out      string   `json:"out"`      // path of the new image
	Verified []string `json:"verified"` // which digests it was compared with
}

// parseDigests parses the digests of flags that are set, and returns these flags.
func parseDigests(c *cli.Context, digests map[string]encoding.TextUnmarshaler) ([]string, error) {
	set := []string{}
	for _, flag := range slices.Sorted(maps.Keys(digests)) {
		if !c.IsSet(flag) {
			continue
		}
		text := c.String(flag)
		if err := digests[flag].UnmarshalText([]byte(text)); err != nil {
			return nil, command.Usage("--%s: %v", flag, err)
		}
		if strings.Trim(text, "0") == "" {
			return nil, command.Usage("--%s: a digest of zeros, which no image has; copy it from the meta", flag)
		}
		set = append(set, flag)
	}
	return set, nil
}

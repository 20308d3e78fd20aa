// Command rdiff makes and applies rsync-like deltas. It takes the arguments of
// rdiff(1), of librsync 2.3, and reads and writes the same files, on all cores.
// It also makes a smaller delta from both files, and prints what a signature
// or delta contains. See its --help.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"puavo-image-repository/cmd/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs the command and returns its exit code.
func run(ctx context.Context, args []string, stdin *os.File, stdout, stderr io.Writer) int {
	err := do(ctx, args, stdin, stdout, stderr)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "rdiff: interrupted")
		return interrupted
	}
	fmt.Fprintf(stderr, "rdiff: %v\n", err)
	return exitCode(err)
}

func do(ctx context.Context, args []string, stdin *os.File, stdout, stderr io.Writer) error {
	o, names, err := parse(args)
	switch {
	case err != nil:
		return err
	case o.help:
		_, err := io.WriteString(stdout, help)
		return err
	case o.version:
		_, err := fmt.Fprintf(stdout, versionText, version.String())
		return err
	}
	a, names, err := findAction(names)
	if err != nil {
		return err
	}
	j := &job{options: o, stdin: stdin, stdout: stdout, stderr: stderr}
	defer j.close()
	return a.run(ctx, j, names)
}

const versionText = `rdiff (puavo-image-repository %s)
Copyright (C) 2026 by the authors of puavo-image-repository.
Compatible with rdiff of librsync 2.3: commands, options, files and exit codes.
Capabilities: 64 bit files

puavo-image-repository comes with NO WARRANTY, to the extent permitted by law.
You may redistribute copies of it under the terms of the Apache License,
Version 2.0 (Apache-2.0).  For more information about these matters, see the
file named LICENSE.
`

const help = `Usage: rdiff [OPTIONS] signature [BASIS [SIGNATURE]]
             [OPTIONS] delta SIGNATURE [NEWFILE [DELTA]]
             [OPTIONS] patch BASIS [DELTA [NEWFILE]]
             [OPTIONS] diff BASIS NEWFILE [DELTA]
             [OPTIONS] info [FILE]

signature, delta and patch work as in rdiff(1). diff makes a delta from two
files; it is smaller than one made from a signature, and any rdiff can apply it.
With --compact it makes a compact delta, which is smaller still if the files are
squashfs images with LZO, but only this rdiff can apply it. info prints what a
signature or delta contains. Commands can be shortened, as in "sig". A missing
name, or -, means standard input or output. NEWFILE of delta and DELTA of patch
are read as they arrive; any other input that is not a regular file is first
copied to a temporary file. An output file appears when it is complete; if it
has other hard links or cannot be replaced, it is written in place.

Options:
  -v, --verbose             Print statistics, and what a signature contains
  -V, --version             Show program version
  -?, -h, --help            Show this help message
  -s, --statistics          Show performance statistics
  -f, --force               Force overwriting existing files
Signature generation options:
  -H, --hash=ALG            Hash algorithm: blake2 (default), md4
  -R, --rollsum=ALG         Rollsum algorithm: rabinkarp (default), rollsum
  -b, --block-size=BYTES    Signature block size, 0 (default) for recommended
  -S, --sum-size=BYTES      Signature strength, 0 (default) for max, -1 for min
IO options:
  -I, --input-size=BYTES    Input buffer size: accepted, no effect
  -O, --output-size=BYTES   Output buffer size: accepted, no effect
Options of diff:
      --effort=EFFORT       How hard to search: fast, default or best
      --memory=SIZE         Memory for the index, such as 64M (default 64M, with
                            --compact 512M)
      --compact             Make a compact delta. It needs several times the size
                            of both files in the directory for temporary files
Options of info:
      --json                Print JSON

Exit codes, as of rdiff(1): 0 done, 100 cannot read or write a file, 101 wrong
usage, 103 file ends early, 104 not a signature or delta, 106 corrupt signature
or delta, 108 wrong size of blocks or sums. In addition: 130 interrupted.
`

package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"
)

// entry is the first entry of a changelog.
type entry struct {
	name, version string
	date          time.Time
}

var (
	firstLine = regexp.MustCompile(`^([a-z0-9][a-z0-9+.-]+) \(([0-9][A-Za-z0-9.+~-]*)\) [a-z-]+; urgency=[a-z]+$`)
	lastLine  = regexp.MustCompile(`^ -- [^<>]+ <[^<>]+>  (.+)$`)
)

// readChangelog returns the first entry of a changelog in Debian's format.
func readChangelog(path string) (e entry, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return e, err
	}
	first, rest, _ := strings.Cut(string(text), "\n")
	m := firstLine.FindStringSubmatch(first)
	if m == nil {
		return e, fmt.Errorf("%s: the first line is not NAME (VERSION) stable; urgency=medium", path)
	}
	e.name, e.version = m[1], m[2]
	for line := range strings.Lines(rest) {
		if m := lastLine.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
			if e.date, err = time.Parse(time.RFC1123Z, m[1]); err != nil {
				err = fmt.Errorf("%s: the date of the first entry: %w", path, err)
			}
			return e, err
		}
	}
	return e, fmt.Errorf("%s: the first entry has no line of who wrote it and when", path)
}

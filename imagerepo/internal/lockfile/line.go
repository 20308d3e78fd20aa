package lockfile

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode"

	"puavo-image-repository/meta/untrusted"
)

const (
	// lineLength is the length of a line that is written first, in bytes. Older versions
	// read 200.
	lineLength = 128
	// maxProgram is the most bytes of a program's name in it, and maxWork of what Say
	// adds.
	maxProgram = 60
	maxWork    = 300
	// maxContent is the most bytes that a line of an older version has, whose
	// program's name can have 255.
	maxContent = 512
	// blank is what is white around a line. Zeros are what a power cut leaves.
	blank = " \t\r\n\x00"
)

var linePattern = regexp.MustCompile(`^process [0-9]+ \([^\x00-\x1f\x7f]*\) since [0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(, [^\x00-\x1f\x7f]*)?$`)

// lineOf returns the line about a holder.
func lineOf(pid int, program string, now time.Time) string {
	name := printable(filepath.Base(program), maxProgram)
	return pad(fmt.Sprintf("process %d (%s) since %s", pid, name, now.Format(time.DateTime)), lineLength)
}

// printable returns a text of printable characters and at most most bytes.
func printable(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
	return strings.ToValidUTF8(text[:min(len(text), most)], "")
}

// pad fills a line up with blanks.
func pad(line string, length int) string {
	return line + strings.Repeat(" ", max(0, length-len(line)-1)) + "\n"
}

// ours reports whether the content of a lock may be written over: it is blank, or
// a line about a holder.
func ours(data []byte) bool {
	data = bytes.Trim(data, blank)
	return len(data) == 0 || linePattern.Match(data)
}

// describes reports whether the content of a lock is that line.
func describes(data []byte, line string) bool {
	return string(bytes.Trim(data, blank)) == strings.Trim(line, blank)
}

// write writes a line over the whole of a file, if that has what may be written
// over.
func write(f *os.File, may func([]byte) bool, line string) error {
	data, err := content(f)
	if err != nil {
		return err
	}
	if !may(data) {
		return fmt.Errorf("%s contains something else", f.Name())
	}
	_, err = f.WriteAt([]byte(pad(strings.TrimSpace(line), max(lineLength, len(data)))), 0)
	return err
}

// content returns what is in a file. A long one is an error.
func content(f *os.File) ([]byte, error) {
	return untrusted.ReadAll(io.NewSectionReader(f, 0, maxContent+1), maxContent)
}

// holder returns who holds a lock, by the line in it.
func holder(f *os.File) string {
	data, err := content(f)
	line := bytes.Trim(data, blank)
	if err != nil || !linePattern.Match(line) {
		return "another process"
	}
	return untrusted.Show(string(line))
}

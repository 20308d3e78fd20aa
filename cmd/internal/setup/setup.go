// Package setup is the guided setup of a builder: it asks for what the command line does not
// say, and writes the answers to a file of settings and, if wanted, the units of a systemd
// timer.
//
// An answer is the value of a flag, by its name, without dashes:
//
//	images-dir             the directory with the images
//	mirror-dir             the mirror
//	repository             the host, or base URL, that serves it
//	config                 a series file; none: the images are scanned
//	keep-last and so on    how many images are kept; none: all
//	sign-keys              the directory of the keys; none: nothing is signed
//	root-keys              where the root keys are created, to be moved elsewhere
//	timer                  when systemd runs a build, as OnCalendar; none: it does not
//	units-dir              where the units are written
//	passphrase-file        a file that only its owner may read, for the timer
//	passphrase-credential  a systemd credential instead: a name, or the path of its file
//
// The setup asks only if a required answer is missing; then it asks for all others too, and
// offers a usual answer for each.
package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/meta/untrusted"
)

// None is the answer that says that something is not wanted.
const None = "none"

// Answers are the values of flags, by their names. A value of None is one that was given.
type Answers map[string]string

// has reports whether there is an answer that is not None.
func (a Answers) has(flag string) bool { return a[flag] != "" && a[flag] != None }

// makesKeys reports whether keys must be made: the directory is wanted and has none.
func (a Answers) makesKeys() bool {
	if !a.has("sign-keys") {
		return false
	}
	entries, err := os.ReadDir(a["sign-keys"])
	return errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0
}

// question asks for an answer.
type question struct {
	flag string
	text string
	// usual is what is offered, for an empty line; "" offers nothing.
	usual func(Answers) string
	// when says whether the question is asked; nil is always.
	when func(Answers) bool
	// must says that without an answer nothing can be done.
	must bool
}

func always(usual string) func(Answers) string { return func(Answers) string { return usual } }

// questions returns all questions, in their order. rootKeysHere says that the root keys
// stay with the others.
func questions(rootKeysHere bool) []question {
	signs := func(a Answers) bool { return a.has("sign-keys") }
	timed := func(a Answers) bool { return a.has("timer") }
	some := func(a Answers) bool { return a.has("keep-last") }
	return []question{
		{flag: "images-dir", text: "Directory with the images", must: true},
		{flag: "mirror-dir", text: "Directory of the mirror, to be published", must: true,
			usual: func(a Answers) string { return filepath.Join(filepath.Dir(a["images-dir"]), "mirror") }},
		{flag: "repository", text: "Host or URL that serves the mirror, such as images.example.org", must: true},
		{flag: "config", text: "File that defines the series, or none to find them by the names of the images", usual: always(None),
			when: func(a Answers) bool { return !a.has("puavo-os") }},
		{flag: "keep-last", text: "Number of newest images to publish of each series, or none for all", usual: always(None)},
		{flag: "keep-daily", text: "Publish one image a day, for how many days", usual: always("0"), when: some},
		{flag: "keep-weekly", text: "Publish one image a week, for how many weeks", usual: always("0"), when: some},
		{flag: "keep-monthly", text: "Publish one image a month, for how many months", usual: always("0"), when: some},
		{flag: "keep-yearly", text: "Publish one image a year, for how many years", usual: always("0"), when: some},
		{flag: "sign-keys", text: "Directory of the keys that sign the mirror, or none", must: true, usual: always("/etc/puavo-update-repository/keys")},
		{flag: "root-keys", text: "Directory for the root keys, to be moved to an offline machine", must: true,
			usual: func(a Answers) string { return a["sign-keys"] + "-root" },
			when:  func(a Answers) bool { return a.makesKeys() && !rootKeysHere }},
		{flag: "timer", text: "When to build, such as daily or 02:30, or none", usual: always(None)},
		{flag: "units-dir", text: "Directory for the systemd units", usual: always("/etc/systemd/system"), when: timed},
		{flag: "passphrase-credential", text: "Passphrase for the timer: the name of a systemd credential, or the path of a file that only its owner can read", must: true,
			usual: always("puavo-update-repository.passphrase"),
			when:  func(a Answers) bool { return timed(a) && signs(a) && !a.has("passphrase-file") }},
	}
}

// dialog is how the setup asks.
type dialog struct {
	line         func(ctx context.Context, prompt string) (string, error) // nil without a terminal
	say          io.Writer                                                // for people
	check        func(flag, answer string) error
	rootKeysHere bool
}

// ask completes answers, of which those that are given are not asked for. Without a
// terminal, and with answers missing that must be there, the error wraps command.ErrUsage
// and names the flags. A wrong answer is asked for again, and a wrong flag is an error.
func (d dialog) ask(ctx context.Context, a Answers) error {
	for _, flag := range sortedFlags(a) {
		if a.has(flag) {
			if err := d.check(flag, a[flag]); err != nil {
				return err
			}
		}
	}
	missing := d.missing(a)
	if len(missing) > 0 && d.line == nil {
		return command.Usage("without a terminal, init also needs %s", strings.Join(missing, ", "))
	}
	for _, q := range questions(d.rootKeysHere) {
		if a[q.flag] != "" || q.when != nil && !q.when(a) {
			continue
		}
		if len(missing) == 0 {
			a.offered(q)
			continue
		}
		if err := d.askOne(ctx, a, q); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// offered gives a question that is not asked its usual answer, of what has one.
func (a Answers) offered(q question) {
	if q.usual != nil {
		a[q.flag] = q.usual(a)
	}
}

// missing returns the flags that must be given and are not, with dashes.
func (d dialog) missing(a Answers) (flags []string) {
	for _, q := range questions(d.rootKeysHere) {
		if q.must && a[q.flag] == "" && (q.when == nil || q.when(a)) {
			flags = append(flags, flagText(q.flag))
		}
	}
	return flags
}

// flagText returns the options that answer a question, for people.
func flagText(flag string) string {
	switch flag {
	case "sign-keys":
		return "--sign-keys (or --no-signing)"
	case "root-keys":
		return "--root-keys (or --root-keys-here)"
	case "passphrase-credential":
		return "--passphrase-credential (or --passphrase-file)"
	}
	return "--" + flag
}

// askOne asks one question until the answer can be.
func (d dialog) askOne(ctx context.Context, a Answers, q question) error {
	prompt, usual := q.text, ""
	if q.usual != nil {
		usual = q.usual(a)
		prompt += " [" + usual + "]"
	}
	for {
		answer, err := d.line(ctx, prompt)
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: the input ended; nothing was written", flagText(q.flag))
		} else if err != nil {
			return err
		}
		if answer = strings.TrimSpace(answer); answer == "" {
			answer = usual
		}
		switch {
		case answer == "":
			err = errors.New("an answer is needed")
		case answer != None:
			err = d.check(q.flag, answer)
		case q.must && q.flag != "sign-keys":
			err = errors.New("it cannot be none")
		}
		if err == nil {
			a.put(q.flag, answer)
			return nil
		}
		if _, err := fmt.Fprintf(d.say, "  %s\n", untrusted.Show(strings.TrimSuffix(err.Error(), "; see --help"))); err != nil {
			return err
		}
	}
}

// put notes an answer. The path of a file with a passphrase is an answer to the question
// for the credential.
func (a Answers) put(flag, answer string) {
	if flag == "passphrase-credential" && strings.Contains(answer, "/") {
		flag = "passphrase-file"
	}
	a[flag] = answer
}

func sortedFlags(a Answers) (flags []string) {
	for flag := range a {
		flags = append(flags, flag)
	}
	slices.Sort(flags)
	return flags
}

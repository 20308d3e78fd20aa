package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"puavo-image-repository/imagerepo/client"
)

// texts is a slog.Handler that keeps messages and values as they are.
type texts []string

func (x *texts) Enabled(context.Context, slog.Level) bool { return true }
func (x *texts) WithAttrs([]slog.Attr) slog.Handler       { return x }
func (x *texts) WithGroup(string) slog.Handler            { return x }

func (x *texts) Handle(_ context.Context, r slog.Record) error {
	*x = append(*x, r.Message)
	r.Attrs(func(a slog.Attr) bool {
		*x = append(*x, a.Value.String())
		return true
	})
	return nil
}

// Whatever a mirror says, what is logged and what the error says is escaped and bounded.
func TestTexts(t *testing.T) {
	const escape = `\u001b[2J\u009b\u202e\n`
	long := strings.Repeat("9", 1<<20)
	answer := func(status string) fault {
		return func(w http.ResponseWriter, _ []byte) { hijack(w, "HTTP/1.1 "+status+"\r\n\r\n") }
	}
	for name, bad := range map[string]func(path string) fault{
		"a number in the meta":       only(series, text(`{"a":{"images":[{"size":1`+long+`}]}}`)),
		"a name in the meta":         only(series, text(`{"a":{"images":[{"filename":"`+escape+long+`"}]}}`)),
		"a number in a string":       only(series, text(`{"a":{"images":[{"cksum":"1`+escape+`"}]}}`)),
		"a name in the index":        only("index.json", text(`{"series":[{"name":"`+escape+long+`"}]}`)),
		"a number in the index":      only("index.json", text(`{"series":[{"images":`+long+`}]}`)),
		"a status of the meta":       only(series, answer("500 \x1b[2J\u009b\u202e"+long[:32<<10])),
		"a status of all payload":    func(path string) fault { return onlyPayload(path, answer("500 \x1b[2J"+long[:32<<10])) },
		"a redirect of all payload":  func(path string) fault { return onlyPayload(path, answer("302 x\r\nLocation: "+long[:32<<10])) },
		"no HTTP in place of a file": func(path string) fault { return onlyPayload(path, answer("\x1b[2J"+long[:32<<10])) },
	} {
		for entry, call := range entries {
			isIndex, isPayload := strings.Contains(name, "index"), strings.Contains(name, "file") || strings.Contains(name, "payload")
			if isIndex && entry == "Update" || isPayload && entry != "Update" {
				continue
			}
			var log texts
			p := newPlace(t, image2, image3)
			o := p.options(newSite(t, "all", bad).URL, "")
			o.Mirrors = append(o.Mirrors, o.Mirrors[0])
			o.Patience.Attempts, o.Log = 2, slog.New(&log)
			if isIndex {
				o.Image = strings.Replace(image3, "amxa", "none", 1)
			}
			err := call(t.Context(), o)
			if err == nil || errors.Is(err, client.ErrNoImage) {
				t.Errorf("%s, %s: %v", name, entry, err)
			}
			if !strings.Contains(strings.Join(log, " "), "next mirror") {
				t.Errorf("%s, %s: logged is %q", name, entry, log)
			}
			for _, text := range append(log, fmt.Sprint(err)) {
				plain := strings.NewReplacer("\n", "", "\t", "").Replace(text)
				if len(text) > 16<<10 || !utf8.ValidString(text) || strings.ContainsFunc(plain, func(r rune) bool { return !strconv.IsPrint(r) }) {
					t.Errorf("%s, %s: %d bytes: %.2000q", name, entry, len(text), text)
				}
			}
		}
	}
}

// onlyPayload returns the fault of what is no document.
func onlyPayload(path string, f fault) fault {
	if filepath.Ext(path) == ".json" {
		return nil
	}
	return f
}

// hijack answers with this text alone.
func hijack(w http.ResponseWriter, answer string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		fmt.Fprint(conn, answer)
		conn.Close()
	}
}

package untrusted

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestShow(t *testing.T) {
	long := strings.Repeat("ä", maxShown)
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"a name", "puavo-os-amxa-buster-2022-01-20-173248-amd64.img", "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"},
		{"other letters", "Käyttö ☂ 𝔘 текст", "Käyttö ☂ 𝔘 текст"},
		{"quotes and backslashes", `open "a\b": it's`, `open "a\b": it's`},
		{"a line", "a\nb\r\tc", `a\nb\r\tc`},
		{"zero", "a\x00b", `a\x00b`},
		{"an escape", "\x1b[31mred\x1b]0;title\a", `\x1b[31mred\x1b]0;title\a`},
		{"an escape of one byte", "\u009b31m", `\u009b31m`},
		{"delete", "\x7f", `\x7f`},
		{"invalid UTF-8", "a\xff\xc3(\xed\xa0\x80", `a\xff\xc3(\xed\xa0\x80`},
		{"the replacement character", "\uFFFD", "\uFFFD"},
		{"reversed text", "gpj.\u202eexe\u2066", `gpj.\u202eexe\u2066`},
		{"a line separator", "a\u2028b\u0085c", `a\u2028b\u0085c`},
		{"a space that is not one", "a\u00a0b\u200bc\ufeff", `a\u00a0b\u200bc\ufeff`},
		{"private use", "\ue000\U0010ffff", `\ue000\U0010ffff`},
		{"as long as it may be", strings.Repeat("a", maxShown), strings.Repeat("a", maxShown)},
		{"longer", strings.Repeat("a", maxShown+1), strings.Repeat("a", maxShown-len(ellipsis)) + ellipsis},
		{"longer, of two bytes each", long, long[:maxShown-len(ellipsis)-1] + ellipsis},
		{"longer when it is escaped", strings.Repeat("\x00", maxShown/4+1), strings.Repeat(`\x00`, maxShown/4-1) + ellipsis},
	} {
		got := Show(c.text)
		if got != c.want || Show(got) != got {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if len(c.text) < 100 && Quote(c.text) != strconv.Quote(c.text) {
			t.Errorf("%s: Quote returns %s", c.name, Quote(c.text))
		}
	}
	if got, want := Quote(long), `"`+long[:maxQuoted-2-len(ellipsis)-1]+ellipsis+`"`; got != want {
		t.Errorf("a long text in quotes: %q, want %q", got, want)
	}
}

// Of a text of several lines, newlines and tabs stay.
func TestShowLines(t *testing.T) {
	long := strings.Repeat("a\n", maxLines/2)
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"lines", "a.img:\n\tfirst\n\tsecond\n", "a.img:\n\tfirst\n\tsecond\n"},
		{"a longer line than is shown elsewhere", strings.Repeat("a", maxShown+1), strings.Repeat("a", maxShown+1)},
		{"control characters", "a\rb\x00\n\x1b[31mred\x7f\u009b\v", `a\rb\x00` + "\n" + `\x1b[31mred\x7f\u009b\v`},
		{"other separators of lines", "a\u2028b\u0085c", `a\u2028b\u0085c`},
		{"reversed text", "\u202eexe", `\u202eexe`},
		{"invalid UTF-8", "\xff\n", `\xff` + "\n"},
		{"as long as it may be", long, long},
		{"longer", long + "b", long[:maxLines-len(ellipsis)] + ellipsis},
	} {
		got := ShowLines(c.text)
		if got != c.want || ShowLines(got) != got {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestError(t *testing.T) {
	if Error(nil) != nil {
		t.Error("no error is one")
	}
	err := Error(&fs.PathError{Op: "open", Path: "a\x1b", Err: fs.ErrNotExist})
	if got := err.Error(); got != `open a\x1b: file does not exist` || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %s", got)
	}
}

// Whatever the text, what is shown is one line of printable UTF-8, not too long, and
// ordinary text stays as it is.
func FuzzShow(f *testing.F) {
	for _, s := range []string{"", "a.img", "\x1b[m\xff\u202e\n", `"\`, strings.Repeat("\x00ä", 500)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ordinary := utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) })
		if got := Show(text); ordinary && len(text) <= maxShown && got != text {
			t.Fatalf("%q is shown as %q", text, got)
		}
		for most, got := range map[int]string{maxShown: Show(text), maxQuoted: Quote(text), maxLines: strings.NewReplacer("\n", "", "\t", "").Replace(ShowLines(text))} {
			if len(got) > most || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !strconv.IsPrint(r) }) {
				t.Fatalf("%q is shown as %q", text, got)
			}
		}
		back, err := strconv.Unquote(Quote(text))
		if err != nil || back != text && !strings.HasSuffix(back, ellipsis) {
			t.Fatalf("%q is quoted as %s", text, Quote(text))
		}
	})
}

package meta

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// A value of the wrong kind is named by its place in the document, and not by the types
// of the program.
func TestPlainJSON(t *testing.T) {
	s := example(t)
	encoded, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	good := string(encoded)
	with := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %s in %s", old, good)
		}
		at := strings.LastIndex(good, old)
		return good[:at] + new + good[at+len(old):]
	}
	for _, c := range []struct{ doc, says string }{
		{with(`"size":5`, `"size":"5"`), `images[1].size is a string, want a whole number`},
		{with(`"size":5`, `"size":5.5`), `images[1].size is the number 5.5, want a whole number`},
		{with(`"size":5`, `"size":18446744073709551616`), `images[1].size is the number 18446744073709551616, want a number of fewer digits`},
		{with(`"size":5`, `"size":true`), `images[1].size is true or false, want a whole number`},
		{with(`"diffs":[{`, `"diffs":[{"size":{},`), `images[1].diffs[0].size is an object, want a whole number`},
		{with(`"diffs":[{`, `"diffs":[[],{`), `images[1].diffs[0] is an array, want an object`},
		{with(`"urls":["https://h/p`, `"urls":["",7,"`), `images[1].urls[1] is a number, want a string`},
		{with(`"urls":["`, `"urls":7,"x":["`), `images[1].urls is a number, want an array`},
		{with(`"filename":"`, `"filename":7,"x":"`), `images[1].filename is a number, want a string`},
		{with(`"puavo-conf":{`, `"puavo-conf":[],"x":{`), `images[1].puavo-conf is an array, want an object`},
		{with(`"cksum":"4294967295"`, `"cksum":5`), `images[1].cksum is a number, want a string of decimal digits, at most 4294967295`},
		{with(`"cksum":"4294967295"`, `"cksum":"4294967296"`), `images[1].cksum is "4294967296", want a string of decimal digits, at most 4294967295`},
		{with(`"cksum":"4294967295"`, `"cksum":"-\u001b"`), `images[1].cksum is "-\x1b", want a string of decimal digits, at most 4294967295`},
		{with(`"sha512":"`, `"sha512":7,"x":"`), `images[1].sha512 is a number, want a string`},
		{"{\"a\":\n{\"images\":\"x\"}}", `images is a string, want an array`},
		{"{\"a\":\n[]}", `line 2: the series is an array, want an object`},
		{"\n\n7", `line 3: the document is a number, want an object`},
	} {
		_, err := ParseSeries([]byte(c.doc))
		if want := ErrFormat.Error() + ": " + c.says; err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for doc, says := range map[string]string{
		`{"series":[{"name":[]}]}`:                `series[0].name is an array, want a string`,
		`{"series":[{"name":"a"},{"images":""}]}`: `series[1].images is a string, want a whole number`,
		"{\n\"series\":{}}":                       `series is an object, want an array`,
	} {
		if _, err := ParseIndex([]byte(doc)); err == nil || err.Error() != ErrFormat.Error()+": "+says {
			t.Errorf("%v, want %s", err, says)
		}
	}
}

// Other documents than ours too.
func TestPlainJSONOfOthers(t *testing.T) {
	for doc, says := range map[string]string{
		`{"text":{}}`: "text is an object, want a string", `{"part":{"share":"x"}}`: "part.share is a string, want a number",
		`{"on":1}`:     "on is a number, want true or false",
		`{"sealed":1}`: "sealed is a number, want a string", `{"part":[]}`: "part is an array, want an object",
	} {
		var v struct {
			Text   string `json:"text"`
			Sealed []byte `json:"sealed"`
			On     bool   `json:"on"`
			Part   struct {
				Share float64 `json:"share"`
			} `json:"part"`
		}
		err := json.Unmarshal([]byte(doc), &v)
		wrong, ok := errors.AsType[*json.UnmarshalTypeError](PlainJSON(err))
		if got := PlainJSON(err); !ok || error(wrong) != err || got.Error() != says {
			t.Errorf("%v, want %s", got, says)
		}
	}
	if err := errors.New("another"); PlainJSON(err) != err || PlainJSON(nil) != nil {
		t.Error("another error is changed")
	}
}

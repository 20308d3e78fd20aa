package meta

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"puavo-image-repository/meta/untrusted"
)

// PlainJSON returns an error of encoding/json in plain words: which member of a document
// is what, and what is wanted there. It wraps err, and returns other errors, and nil, as
// they are.
//
//	images[2].size is a string, want a whole number
func PlainJSON(err error) error {
	wrong, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return err
	}
	place := strings.ReplaceAll(wrong.Field, ".[", "[")
	place = strings.ReplaceAll(place, reflect.TypeFor[jsonDigests]().Name()+".", "") // it is embedded
	switch {
	case place == "" && wrong.Type == reflect.TypeFor[jsonSeries]():
		place = "the series"
	case place == "":
		place = "the document"
	}
	want := wanted(wrong.Type)
	if digits, isNumber := strings.CutPrefix(wrong.Value, "number "); isNumber && strings.Trim(digits, "-0123456789") == "" {
		want = "a number of fewer digits"
	}
	return plainError{untrusted.Show(fmt.Sprintf("%s is %s, want %s", place, found(wrong.Value), want)), err}
}

// plainError is an error with another text.
type plainError struct {
	text string
	error
}

func (e plainError) Error() string { return e.text }

func (e plainError) Unwrap() error { return e.error }

// found describes the value of an UnmarshalTypeError.
func found(value string) string {
	switch value {
	case "array", "object":
		return "an " + value
	case "bool":
		return "true or false"
	case "number", "string":
		return "a " + value
	}
	if strings.HasPrefix(value, "number ") {
		return "the " + value
	}
	return value
}

// wanted describes the JSON that a type is made of.
func wanted(t reflect.Type) string {
	if t == reflect.TypeFor[decimal]() {
		return "a string of decimal digits, at most 4294967295"
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return "a string"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 { // it is written in base64
			return "a string"
		}
		return "an array"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Map, reflect.Struct, reflect.Pointer, reflect.Interface:
		return "an object"
	}
	return "a whole number"
}

// decimal is a number that is written as a string.
type decimal uint32

func (d decimal) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(d), 10), nil }

func (d *decimal) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 32)
	if err != nil {
		return &json.UnmarshalTypeError{Value: untrusted.Quote(string(text)), Type: reflect.TypeFor[decimal]()}
	}
	*d = decimal(n)
	return nil
}

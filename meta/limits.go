package meta

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// The limits of documents. They bound the memory and disk that a document can cost
// its reader.
const (
	MaxDocument = 64 << 20 // bytes of a document
	MaxSize     = 1 << 40  // bytes of an image or a delta
	maxList     = 10_000   // images of a series, diffs of an image, series of an index
)

// list is an array of at most maxList elements; it refuses a longer one without
// parsing the rest.
type list[T any] []T

func (l *list[T]) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	first, err := d.Token()
	if err != nil || first == nil { // null
		return err
	}
	if first != json.Delim('[') {
		return inList("", json.Unmarshal(data, new([]json.RawMessage)))
	}
	*l = list[T]{}
	for d.More() {
		if len(*l) == maxList {
			return fmt.Errorf("an array of more than %d elements", maxList)
		}
		var element T
		if err := d.Decode(&element); err != nil {
			return inElement(len(*l), err)
		}
		*l = append(*l, element)
	}
	return nil
}

// inElement returns an error for an element of an array with the place of it.
func inElement(i int, err error) error {
	place := fmt.Sprintf("[%d]", i)
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return inList(place, err)
	}
	return fmt.Errorf("%s: %w", place, err)
}

// inList returns an UnmarshalTypeError for an array with the place in it. What the array
// is in, encoding/json puts before that; but not its offset in the document.
func inList(place string, err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		wrong.Field = strings.Trim(place+"."+wrong.Field, ".")
		wrong.Offset = -1
		return wrong
	}
	return err
}

package meta

import (
	"bytes"
	"encoding/json"
	"fmt"
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
		return fmt.Errorf("%.20q is not an array", data)
	}
	*l = list[T]{}
	for d.More() {
		if len(*l) == maxList {
			return fmt.Errorf("an array of more than %d elements", maxList)
		}
		var element T
		if err := d.Decode(&element); err != nil {
			return fmt.Errorf("[%d]: %v", len(*l), err) //nolint:errorlint // its offset counts from here
		}
		*l = append(*l, element)
	}
	return nil
}

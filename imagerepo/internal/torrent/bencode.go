package torrent

import (
	"bytes"
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
)

// A value in bencode is a string, an int64, a list or a dictionary.
type (
	list       []any
	dictionary map[string]any
)

// appendValue appends a value in bencode.
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		b = strconv.AppendInt(b, int64(len(v)), 10)
		return append(append(b, ':'), v...)
	case int64:
		return append(strconv.AppendInt(append(b, 'i'), v, 10), 'e')
	case list:
		b = append(b, 'l')
		for _, element := range v {
			b = appendValue(b, element)
		}
	case dictionary:
		b = append(b, 'd')
		for _, key := range slices.Sorted(maps.Keys(v)) {
			b = appendValue(appendValue(b, key), v[key])
		}
	}
	return append(b, 'e')
}

// mostDepth is how deep lists and dictionaries may lie in each other.
const mostDepth = 8

var errNotBencode = errors.New("it is not in the one form that bencode has")

// decode returns the value that data is, whole and in its one form. Strings are copied.
func decode(data []byte) (any, error) {
	v, _, err := cutValue(data, mostDepth)
	if err == nil && !bytes.Equal(appendValue(nil, v), data) {
		err = errNotBencode
	}
	return v, err
}

// cutValue returns the value at the start of data, and what follows it. Whether it has the
// one form, decode sees.
func cutValue(data []byte, depth int) (v any, rest []byte, err error) {
	if len(data) == 0 || depth == 0 {
		return nil, nil, errNotBencode
	}
	switch data[0] {
	case 'i':
		return cutInteger(data[1:], 'e')
	case 'l':
		return cutList(data[1:], depth-1)
	case 'd':
		return cutDictionary(data[1:], depth-1)
	}
	return cutString(data)
}

// cutInteger returns the integer before an end. None is longer than math.MinInt64.
func cutInteger(data []byte, end byte) (n any, rest []byte, err error) {
	at := bytes.IndexByte(data[:min(len(data), len(strconv.Itoa(math.MinInt64))+1)], end)
	if at < 0 {
		return nil, nil, errNotBencode
	}
	i, err := strconv.ParseInt(string(data[:at]), 10, 64)
	if err != nil {
		return nil, nil, errNotBencode
	}
	return i, data[at+1:], nil
}

func cutString(data []byte) (s any, rest []byte, err error) {
	length, rest, err := cutInteger(data, ':')
	if err != nil {
		return nil, nil, err
	}
	n, _ := length.(int64)
	if n < 0 || n > int64(len(rest)) {
		return nil, nil, errNotBencode
	}
	return string(rest[:n]), rest[n:], nil
}

func cutList(data []byte, depth int) (v any, rest []byte, err error) {
	l := list{}
	for len(data) > 0 && data[0] != 'e' {
		var element any
		if element, data, err = cutValue(data, depth); err != nil {
			return nil, nil, err
		}
		l = append(l, element)
	}
	if len(data) == 0 {
		return nil, nil, errNotBencode
	}
	return l, data[1:], nil
}

func cutDictionary(data []byte, depth int) (v any, rest []byte, err error) {
	d := dictionary{}
	for len(data) > 0 && data[0] != 'e' {
		var key, value any
		if key, data, err = cutString(data); err != nil {
			return nil, nil, err
		}
		if value, data, err = cutValue(data, depth); err != nil {
			return nil, nil, err
		}
		name, _ := key.(string)
		d[name] = value
	}
	if len(data) == 0 {
		return nil, nil, errNotBencode
	}
	return d, data[1:], nil
}

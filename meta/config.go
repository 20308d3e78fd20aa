package meta

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"puavo-image-repository/meta/untrusted"
)

// SeriesConfig is one series of a series file.
type SeriesConfig struct {
	Name   string
	Images []Name          // oldest first
	Extra  map[Name][]Name // bases wanted for a target beyond the usual ones
}

// ParseConfig parses a series file in either form, sorted by the name of the
// series. Errors say where in the document the fault is.
func ParseConfig(data []byte) ([]SeriesConfig, error) {
	var doc members
	if err := decode(data, &doc); err != nil {
		return nil, err
	}
	if doc == nil {
		return nil, errors.New("not an object of series")
	}
	var all []SeriesConfig
	for _, name := range slices.Sorted(maps.Keys(doc)) {
		if _, err := ParseSeriesName(name); err != nil {
			return nil, err
		}
		c, err := parseSeriesConfig(name, doc[name])
		if err != nil {
			return nil, fmt.Errorf("series %q: %w", name, err)
		}
		all = append(all, c)
	}
	return all, nil
}

// members are those of a JSON object. A duplicate name is an error: one of the two
// values would get lost.
type members map[string]json.RawMessage

func (m *members) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return err
	}
	*m = members{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		name := key.(string) // a JSON object has no other keys
		if _, ok := (*m)[name]; ok {
			return fmt.Errorf("%s appears twice", untrusted.Quote(name))
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		(*m)[name] = value
	}
	return nil
}

func parseSeriesConfig(name string, data json.RawMessage) (SeriesConfig, error) {
	var form struct {
		Images []string            `json:"images"`
		Extra  map[string][]string `json:"extra_rdiffs"`
	}
	err := checkKeys(data)
	if err != nil {
		return SeriesConfig{}, err
	}
	if bytes.HasPrefix(data, []byte("[")) {
		err = json.Unmarshal(data, &form.Images)
	} else {
		err = json.Unmarshal(data, &form)
	}
	if err != nil || form.Images == nil {
		return SeriesConfig{}, errors.New(`want an array of image names, or {"images": [...], "extra_rdiffs": {"<target>": ["<base>", ...]}}`)
	}
	c := SeriesConfig{Name: name, Extra: make(map[Name][]Name)}
	if c.Images, err = parseNames(form.Images); err != nil {
		return SeriesConfig{}, fmt.Errorf("images%w", err)
	}
	slices.SortFunc(c.Images, Name.Compare)
	for _, target := range slices.Sorted(maps.Keys(form.Extra)) {
		t, err := ParseName(target)
		if err != nil {
			return SeriesConfig{}, fmt.Errorf("extra_rdiffs: %w", err)
		}
		if c.Extra[t], err = parseNames(form.Extra[target]); err != nil {
			return SeriesConfig{}, fmt.Errorf("extra_rdiffs: %s%w", target, err)
		}
	}
	return c, nil
}

// seriesKeys are the keys of a series that is an object.
var seriesKeys = []string{"images", "extra_rdiffs"}

// checkKeys refuses a series with an unknown key, or with a duplicate key or
// target: what they say would get lost.
func checkKeys(data json.RawMessage) error {
	var series members
	if err := json.Unmarshal(data, &series); err != nil {
		return err
	}
	written := make(map[string]string) // known keys, as they stand in the series
	for _, key := range slices.Sorted(maps.Keys(series)) {
		known, err := knownKey(key)
		if err != nil {
			return err
		}
		if other, ok := written[known]; ok {
			return fmt.Errorf("%q and %q are the same key; keep one of them", other, key)
		}
		written[known] = key
		if err := json.Unmarshal(series[key], new(members)); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

// knownKey returns the key of a series that key means: it ignores case, as
// encoding/json does.
func knownKey(key string) (string, error) {
	for _, known := range seriesKeys {
		if strings.EqualFold(key, known) {
			return known, nil
		}
	}
	if near := untrusted.Nearest(strings.ToLower(key), seriesKeys); near != "" {
		return "", fmt.Errorf("unknown key %s; did you mean %q?", untrusted.Quote(key), near)
	}
	return "", fmt.Errorf("unknown key %s; the keys are %s", untrusted.Quote(key), strings.Join(seriesKeys, " and "))
}

// parseNames parses a list of image names; its errors begin with the place in
// the list.
func parseNames(list []string) ([]Name, error) {
	names := make([]Name, 0, len(list))
	for i, s := range list {
		n, err := ParseName(s)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		if slices.Contains(names, n) {
			return nil, fmt.Errorf("[%d]: %s appears twice", i, n)
		}
		names = append(names, n)
	}
	return names, nil
}

// decode unmarshals one JSON document; its errors give the line where that is known,
// escaped and bounded.
func decode(data []byte, v any) error {
	if len(data) > MaxDocument {
		return fmt.Errorf("%d bytes, at most %d are allowed", len(data), MaxDocument)
	}
	err := json.Unmarshal(data, v)
	offset := int64(-1)
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = e.Offset
	} else if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		offset = e.Offset
	}
	err = untrusted.Error(PlainJSON(err)) // encoding/json quotes values as a whole
	if offset < 0 {
		return err
	}
	line := 1 + bytes.Count(data[:min(offset, int64(len(data)))], []byte("\n"))
	return fmt.Errorf("line %d: %w", line, err)
}

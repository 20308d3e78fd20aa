package meta

import (
	"fmt"

	"puavo-image-repository/meta/untrusted"
)

// Index is the document index.json: the series of a mirror, sorted by name.
type Index struct {
	Series []IndexEntry `json:"series"`
}

// IndexEntry is one series of an Index.
type IndexEntry struct {
	Name   string `json:"name"`
	Meta   string `json:"meta"`   // SeriesPath of the name
	Images int    `json:"images"` // how many
	Newest string `json:"newest"` // file name of the newest, "" for none
}

// NewIndex makes the index of a mirror's series, in their order.
func NewIndex(series []Series) Index {
	ix := Index{Series: make([]IndexEntry, 0, len(series))}
	for i := range series {
		s := &series[i]
		e := IndexEntry{Name: s.Name, Meta: SeriesPath(s.Name), Images: len(s.Images)}
		if im := s.Newest(); im != nil {
			e.Newest = im.Name.String()
		}
		ix.Series = append(ix.Series, e)
	}
	return ix
}

// Encode returns the document.
func (ix Index) Encode() ([]byte, error) { return encode(ix) }

// ParseIndex parses index.json. A series with an invalid name or path is an error.
// Errors wrap ErrFormat.
func ParseIndex(data []byte) (Index, error) {
	ix, err := parseIndex(data)
	return ix, malformed(err)
}

func parseIndex(data []byte) (Index, error) {
	var doc struct {
		Series list[IndexEntry] `json:"series"`
	}
	if err := decode(data, &doc); err != nil {
		return Index{}, err
	}
	ix := Index{Series: doc.Series}
	seen := make(map[string]bool, len(ix.Series))
	for i, e := range ix.Series {
		if _, err := ParseSeriesName(e.Name); err != nil {
			return Index{}, fmt.Errorf("series[%d]: %w", i, err)
		}
		if seen[e.Name] {
			return Index{}, fmt.Errorf("series[%d]: %s appears twice", i, e.Name)
		}
		seen[e.Name] = true
		if e.Meta != SeriesPath(e.Name) {
			return Index{}, fmt.Errorf("series[%d]: meta is %s, want %q", i, untrusted.Quote(e.Meta), SeriesPath(e.Name))
		}
		if e.Newest == "" {
			continue
		}
		if _, err := ParseOldName(e.Newest); err != nil {
			return Index{}, fmt.Errorf("series[%d]: newest: %w", i, err)
		}
	}
	return ix, nil
}

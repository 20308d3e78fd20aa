package catalog

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
)

// ErrDamaged is wrapped by the error for a group of which no right copy of the catalog is left.
var ErrDamaged = errors.New("the catalog is damaged; rebuild it with: archive verify STORE --rebuild-catalog")

const (
	format     = 1
	maxCatalog = 64 << 20 // bytes
)

// document is a catalog as it is written.
type document struct {
	Format     int       `json:"format"`
	Group      string    `json:"group"`
	Generation int64     `json:"generation"`
	Versions   []Version `json:"versions"`
	Trash      []Pruned  `json:"trash,omitempty"`
	Obsolete   []string  `json:"obsolete,omitempty"`
}

// What stands before and after a check, and how long all three are.
const (
	checkHead = `,"check":"`
	checkTail = "\"}\n"
	checkLen  = len(checkHead) + 2*len(cksum.Digest256{}) + len(checkTail)
)

// Encode returns the catalog as it is written.
func (c *Catalog) Encode() ([]byte, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("the catalog of %s: %w", c.Group, err)
	}
	data, err := json.Marshal(document{format, c.Group, c.Generation, c.Versions, c.Trash, c.Obsolete})
	if err != nil {
		return nil, err
	}
	body := bytes.TrimSuffix(data, []byte("}"))
	return fmt.Appendf(nil, "%s%s%s%s", body, checkHead, checkOf(c.Group, body), checkTail), nil
}

func checkOf(group string, body []byte) cksum.Digest256 {
	h := cksum.NewBLAKE3()
	h.Write([]byte(group + "\n"))
	h.Write(body)
	return cksum.Digest256(h.Sum(nil))
}

// Parse parses the catalog of a group.
func Parse(group string, data []byte) (*Catalog, error) {
	at := len(data) - checkLen
	if at < 1 || string(data[at:]) != fmt.Sprintf("%s%s%s", checkHead, checkOf(group, data[:at]), checkTail) {
		return nil, errors.New("its check is wrong")
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, err
	}
	if d.Format != format {
		return nil, fmt.Errorf("it has format %d, and this program knows %d; take a newer one", d.Format, format)
	}
	c := &Catalog{d.Group, d.Generation, d.Versions, d.Trash, d.Obsolete}
	if c.Group != group {
		return nil, fmt.Errorf("it is that of another group, %s", c.Group)
	}
	return c, c.Check()
}

// Load reads the catalog of a group from its directory. It returns which copies are damaged or
// missing, or behind. Without any copy the error wraps fs.ErrNotExist; without a right one,
// ErrDamaged.
func Load(dir atomicfile.Dir, group string) (c *Catalog, wrong []string, err error) {
	var errs []error
	found := make(map[string]*Catalog)
	for _, file := range []string{File, Backup} {
		data, err := dir.ReadFile(file, maxCatalog)
		if err == nil {
			found[file], err = Parse(group, data)
		}
		if err != nil {
			delete(found, file)
			errs = append(errs, fmt.Errorf("%s: %w", file, err))
		} else if c == nil || found[file].Generation > c.Generation {
			c = found[file]
		}
	}
	if c == nil {
		kind := cmp.Or(onlyMissing(errs), ErrDamaged)
		return nil, []string{File, Backup}, fmt.Errorf("group %s: %w: %w", group, kind, errors.Join(errs...))
	}
	for _, file := range []string{File, Backup} {
		if found[file] == nil || found[file].Generation != c.Generation {
			wrong = append(wrong, file)
		}
	}
	return c, wrong, nil
}

// onlyMissing returns fs.ErrNotExist if that is what all errors are.
func onlyMissing(errs []error) error {
	for _, err := range errs {
		if !errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	return fs.ErrNotExist
}

// Save writes both copies of the catalog, as its next generation. From when the first is
// written, it counts.
func Save(dir atomicfile.Dir, c *Catalog) error {
	c.Generation++
	data, err := c.Encode()
	if err != nil {
		return err
	}
	for _, file := range []string{File, Backup} {
		if _, err := dir.Replace(file+New, file, data); err != nil {
			return err
		}
	}
	return nil
}

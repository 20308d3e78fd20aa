package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// ErrRefused is wrapped by the errors for metadata and documents that are not to be
// trusted.
var ErrRefused = errors.New("not trusted")

// signs tells of what an error of the library may be the sign.
var signs = []struct {
	is   error
	sign string
}{
	{&metadata.ErrUnsignedMetadata{}, "it is not signed by enough of the trusted keys (arbitrary install or fast-forward attack, wrong software, a key that was stolen, or the repository of another root?)"},
	{&metadata.ErrExpiredMetadata{}, "it has expired (freeze attack, or nobody renewed it, or the clock is wrong?)"},
	{&metadata.ErrBadVersionNumber{}, "it is older than what was trusted before, or of another version than is named (rollback attack?)"},
	{&metadata.ErrLengthOrHashMismatch{}, "it is not the one that is named (mix-and-match attack, or it was changed?)"},
}

// refused makes an error of the library about a file one of ErrRefused.
func refused(name string, err error) error {
	for _, s := range signs {
		if errors.Is(err, s.is) {
			return fmt.Errorf("%w: tuf/%s: %s: %w", ErrRefused, name, s.sign, err)
		}
	}
	return fmt.Errorf("%w: tuf/%s: %w", ErrRefused, name, err)
}

// missing makes an error for a file that is named and not there.
func missing(err error, name string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: tuf/%s is named but not there (mix-and-match attack, or a mirror that is only half uploaded?): %w", ErrRefused, name, err)
	}
	return err
}

// wants returns an error for metadata that does not name a file, which the library
// takes for granted.
func wants(data []byte, name string) error {
	var m struct {
		Signed struct {
			Meta map[string]*struct{} `json:"meta"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	if m.Signed.Meta[name] == nil {
		return fmt.Errorf("it does not name %s", name)
	}
	return nil
}

package tuf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

// ErrRefused is wrapped by the errors for metadata and documents that must not be
// trusted.
var ErrRefused = errors.New("not trusted")

// ErrEndlessData is wrapped by the error of a ReadFunc for a file of more bytes than
// it may have.
var ErrEndlessData = errors.New("endless data attack?")

// attacks names the attacks that an error of go-tuf may be the sign of.
var attacks = []struct {
	err  error
	says string
}{
	{&metadata.ErrUnsignedMetadata{}, "too few trusted keys have signed it (arbitrary install or fast-forward attack, a stolen key, or the repository of another root?)"},
	{&metadata.ErrExpiredMetadata{}, "it has expired (freeze attack, no renewal, or a wrong clock?)"},
	{&metadata.ErrBadVersionNumber{}, "it is older than what was trusted before, or not the version that is named (rollback attack?)"},
	{&metadata.ErrLengthOrHashMismatch{}, "it is not the file that is named (mix-and-match attack, or changed?)"},
}

// refused wraps an error of go-tuf about a file in ErrRefused.
func refused(name string, err error) error {
	for _, a := range attacks {
		if errors.Is(err, a.err) {
			return fmt.Errorf("%w: %s: %s: %w", ErrRefused, name, a.says, untrusted.Error(err))
		}
	}
	return fmt.Errorf("%w: %s: %w", ErrRefused, name, untrusted.Error(meta.PlainJSON(err)))
}

// refuseMissing wraps the error for a file that is named, but does not exist, in
// ErrRefused. Others, and nil, it returns as they are.
func refuseMissing(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is named but missing (mix-and-match attack, or an incomplete upload?): %w", ErrRefused, name, err)
	}
	return err
}

// refuseEndless wraps the error for a file that is too long in ErrRefused. Others,
// and nil, it returns as they are.
func refuseEndless(name string, err error) error {
	if errors.Is(err, ErrEndlessData) {
		return fmt.Errorf("%w: %s: %w", ErrRefused, name, untrusted.Error(err))
	}
	return err
}

// requireMeta returns an error for a timestamp or snapshot that does not describe a
// file. go-tuf relies on that, and panics.
func requireMeta(data []byte, file string) error {
	var m struct {
		Signed struct {
			Meta map[string]*struct{} `json:"meta"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	if m.Signed.Meta[file] == nil {
		return fmt.Errorf("it does not name %s", file)
	}
	return nil
}

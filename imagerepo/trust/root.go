package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"puavo-image-repository/imagerepo/internal/tuf"
)

// Proposal describes a root that follows the newest one.
type Proposal struct {
	Version int64     `json:"version"`
	Expires time.Time `json:"expires"`
	// Changes lists the differences from the root before, a clause each.
	Changes []string `json:"changes"`
	// Missing lists the signatures that it lacks; if there are none it is complete, and
	// the newest root.
	Missing []Missing `json:"missing"`
}

// Missing describes signatures that a root lacks.
type Missing struct {
	Of         int64    `json:"of"`         // the version of the root that demands them
	Signatures int      `json:"signatures"` // how many more
	Keys       []string `json:"keys"`       // the ids of the keys that can make them
}

// createFirstRoot makes a key for each role, and the first root.
func (k *Keys) createFirstRoot() error {
	r := metadata.Root(k.options.time().Add(k.options.lifetime(Root)))
	for _, role := range Roles() {
		key, err := k.generateKey(role)
		if err != nil {
			return err
		}
		if err := r.Signed.AddKey(key, role); err != nil {
			return err
		}
	}
	_, err := k.signNext(r)
	return err
}

// Rotate replaces the key of a role whose id begins with id by a new one, or with ""
// all keys of the role. It signs the new root with the private keys in the directory.
func (k *Keys) Rotate(role, id string) (Proposal, error) {
	return k.propose(func(r *metadata.RootType) error {
		if r.Roles[role] == nil {
			return unknownRole(role)
		}
		old := slices.DeleteFunc(slices.Clone(r.Roles[role].KeyIDs), func(known string) bool { return !strings.HasPrefix(known, id) })
		if id != "" && len(old) != 1 {
			return fmt.Errorf("%d keys of %s have an id that begins with %q, want exactly one; see keys list", len(old), role, id)
		}
		for _, id := range old {
			key, err := k.generateKey(role)
			if err != nil {
				return err
			}
			if err := errors.Join(r.AddKey(key, role), r.RevokeKey(id, role)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Add gives a role another key, and a threshold unless that is 0. It signs the new
// root with the private keys in the directory.
func (k *Keys) Add(role string, threshold int) (Proposal, error) {
	return k.propose(func(r *metadata.RootType) error {
		of := r.Roles[role]
		if of == nil {
			return unknownRole(role)
		}
		if threshold < 0 || threshold > len(of.KeyIDs)+1 {
			return fmt.Errorf("threshold %d, but %s will have only %d keys", threshold, role, len(of.KeyIDs)+1)
		}
		key, err := k.generateKey(role)
		if err != nil {
			return err
		}
		if threshold > 0 {
			of.Threshold = threshold
		}
		return r.AddKey(key, role)
	})
}

func unknownRole(role string) error {
	return fmt.Errorf("no role %q; want %s", role, strings.Join(Roles(), ", "))
}

// Pending returns the root that waits for signatures, nil if there is none. It needs no
// private key.
func (k *Keys) Pending() *Proposal {
	if k.next == nil {
		return nil
	}
	p := k.proposal(k.next.Metadata)
	return &p
}

// SignRoot signs the root that waits for signatures with the private keys in the
// directory. If none waits, and the newest root has less than a third of its lifetime
// left, it makes and signs one with the same keys. It returns nil if there was nothing
// to sign.
func (k *Keys) SignRoot() (*Proposal, error) {
	if err := k.checkOpen(); err != nil {
		return nil, err
	}
	if k.next == nil {
		if !expiresSoon(k.newest().Signed.Expires, k.options.time(), k.options.lifetime(Root)) {
			return nil, nil
		}
		p, err := k.propose(func(*metadata.RootType) error { return nil })
		return &p, err
	}
	var p Proposal
	err := k.withLock(func() (err error) {
		if k.next == nil {
			return fmt.Errorf("%s was completed in the meantime", k.path(nextName))
		}
		p, err = k.signNext(k.next.Metadata)
		return err
	})
	return &p, err
}

// propose makes a changed copy of the newest root and signs it.
func (k *Keys) propose(change func(*metadata.RootType) error) (p Proposal, err error) {
	err = k.withLock(func() error {
		if k.next != nil {
			return fmt.Errorf("%w: complete %s with keys sign, or remove it", ErrPending, k.path(nextName))
		}
		next, err := metadata.Root().FromBytes(k.newest().data)
		if err != nil {
			return err
		}
		if err := change(&next.Signed); err != nil {
			return err
		}
		next.ClearSignatures()
		next.Signed.Version++
		next.Signed.Expires = k.options.time().Add(k.options.lifetime(Root))
		p, err = k.signNext(next)
		return err
	})
	return p, err
}

// signNext signs the root that follows the newest one. It writes it as the newest root
// if it is complete, otherwise as next.root.json.
func (k *Keys) signNext(next *metadata.Metadata[metadata.RootType]) (p Proposal, err error) {
	if err := k.validate(next); err != nil {
		return p, err
	}
	for id := range k.rootKeys(next) {
		if slices.Contains(validSigners(next, next), id) || k.newest() != nil && slices.Contains(validSigners(k.newest().Metadata, next), id) {
			continue
		}
		s, err := k.signer(Root, id)
		if err != nil {
			return p, err
		}
		if s == nil {
			continue
		}
		next.Signatures = slices.DeleteFunc(next.Signatures, func(s metadata.Signature) bool { return s.KeyID == id })
		if _, err := next.Sign(s); err != nil {
			return p, err
		}
	}
	p = k.proposal(next)
	data, err := encode(next)
	if err != nil {
		return p, err
	}
	if len(p.Missing) > 0 {
		return p, k.write(nextName, data, 0o644)
	}
	if err := k.write(tuf.RootName(next.Signed.Version), data, 0o644); err != nil {
		return p, err
	}
	if err := k.dir.Remove(nextName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	return p, nil
}

// rootKeys returns the ids of the keys that may sign the next root: its own root keys,
// and those of the newest root.
func (k *Keys) rootKeys(next *metadata.Metadata[metadata.RootType]) map[string]bool {
	ids := make(map[string]bool)
	for _, id := range next.Signed.Roles[Root].KeyIDs {
		ids[id] = true
	}
	if k.newest() != nil {
		for _, id := range k.newest().Signed.Roles[Root].KeyIDs {
			ids[id] = true
		}
	}
	return ids
}

// validate returns an error for a root that must not be signed: next.root.json may come
// from another machine.
func (k *Keys) validate(next *metadata.Metadata[metadata.RootType]) error {
	no := func(format string, a ...any) error {
		return fmt.Errorf("%s: %s; remove it and start again", k.path(nextName), fmt.Sprintf(format, a...))
	}
	r := &next.Signed
	switch {
	case r.Version != int64(len(k.roots))+1:
		return fmt.Errorf("%s is version %d, but the newest root here is version %d; copy the roots between them here", k.path(nextName), r.Version, len(k.roots))
	case !r.Expires.After(k.options.time()):
		return no("it has expired")
	case !r.ConsistentSnapshot || len(r.Roles) != len(Roles()):
		return no("this tool does not make such roots")
	}
	for _, role := range Roles() {
		of := r.Roles[role]
		if of == nil || of.Threshold < 1 || of.Threshold > len(of.KeyIDs) {
			return no("its role %s is invalid", role)
		}
		for _, id := range of.KeyIDs {
			key := r.Keys[id]
			if key == nil || key.Type != metadata.KeyTypeEd25519 {
				return no("the key %s is not an Ed25519 key", shortID(id))
			}
			if is, err := key.ID(); err != nil || is != id {
				return no("the id of the key %s is wrong", shortID(id))
			}
		}
	}
	return nil
}

// proposal describes a root that follows the newest one.
func (k *Keys) proposal(next *metadata.Metadata[metadata.RootType]) Proposal {
	p := Proposal{Version: next.Signed.Version, Expires: next.Signed.Expires, Changes: []string{}, Missing: []Missing{}}
	if old := k.newest(); old != nil {
		p.Changes = changes(&old.Signed, &next.Signed)
		p.Missing = missingSignatures(p.Missing, old.Metadata, next)
	}
	p.Missing = missingSignatures(p.Missing, next, next)
	return p
}

// missingSignatures appends the signatures that a root demands of the next one, and
// that this lacks.
func missingSignatures(all []Missing, by, next *metadata.Metadata[metadata.RootType]) []Missing {
	role := by.Signed.Roles[Root]
	have := validSigners(by, next)
	if len(have) >= role.Threshold {
		return all
	}
	m := Missing{Of: by.Signed.Version, Signatures: role.Threshold - len(have), Keys: []string{}}
	for _, id := range role.KeyIDs {
		if !slices.Contains(have, id) {
			m.Keys = append(m.Keys, id)
		}
	}
	return append(all, m)
}

// validSigners returns the ids of the root keys of one root that have signed another.
func validSigners(by, next *metadata.Metadata[metadata.RootType]) (ids []string) {
	for _, id := range by.Signed.Roles[Root].KeyIDs {
		alone := *by
		alone.Signed.Roles = map[string]*metadata.Role{Root: {KeyIDs: []string{id}, Threshold: 1}}
		if alone.VerifyDelegate(Root, next) == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// changes lists the differences of two roots.
func changes(old, next *metadata.RootType) []string {
	all := []string{}
	for _, role := range Roles() {
		before, after := old.Roles[role], next.Roles[role]
		for _, id := range difference(after.KeyIDs, before.KeyIDs) {
			all = append(all, fmt.Sprintf("%s gets the key %s", role, shortID(id)))
		}
		for _, id := range difference(before.KeyIDs, after.KeyIDs) {
			all = append(all, fmt.Sprintf("%s loses the key %s", role, shortID(id)))
		}
		if before.Threshold != after.Threshold {
			all = append(all, fmt.Sprintf("%s needs %d signatures, not %d", role, after.Threshold, before.Threshold))
		}
	}
	return all
}

// difference returns the elements of a list that are not in another, sorted.
func difference(list, other []string) []string {
	only := slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(other, s) })
	slices.Sort(only)
	return slices.Compact(only)
}

// encode returns metadata as a file.
func encode[T metadata.Roles](m *metadata.Metadata[T]) ([]byte, error) {
	data, err := m.ToBytes(true)
	return append(data, '\n'), err
}

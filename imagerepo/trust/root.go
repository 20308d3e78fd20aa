package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Proposal is a root that follows the newest one.
type Proposal struct {
	Version int64     `json:"version"`
	Expires time.Time `json:"expires"`
	// Changes tells what is other than in the root before, a clause each.
	Changes []string `json:"changes"`
	// Missing tells which signatures it lacks; without any it is complete, and the
	// newest root.
	Missing []Missing `json:"missing"`
}

// Missing tells of signatures that a root lacks.
type Missing struct {
	Of         int64    `json:"of"`         // the version of the root that demands them
	Signatures int      `json:"signatures"` // how many more
	Keys       []string `json:"keys"`       // the ids of the keys that can make them
}

// first makes the first root.
func (k *Keys) first() error {
	r := metadata.Root(k.time().Add(k.Expiry.Root))
	for _, role := range Roles() {
		key, err := k.create(role)
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

// Rotate replaces keys of a role by new ones: the one whose id begins so, or all
// with "". The new root is signed with what is here.
func (k *Keys) Rotate(role, id string) (Proposal, error) {
	return k.propose(func(r *metadata.RootType) error {
		if r.Roles[role] == nil {
			return unknown(role)
		}
		old := slices.DeleteFunc(slices.Clone(r.Roles[role].KeyIDs), func(known string) bool { return !strings.HasPrefix(known, id) })
		if id != "" && len(old) != 1 {
			return fmt.Errorf("%d keys of %s have an id that begins with %q, want one; see keys list", len(old), role, id)
		}
		for _, id := range old {
			key, err := k.create(role)
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

// Add gives a role another key, and a threshold unless that is 0. The new root is
// signed with what is here.
func (k *Keys) Add(role string, threshold int) (Proposal, error) {
	return k.propose(func(r *metadata.RootType) error {
		of := r.Roles[role]
		if of == nil {
			return unknown(role)
		}
		if threshold < 0 || threshold > len(of.KeyIDs)+1 {
			return fmt.Errorf("a threshold of %d, and %s will have %d keys", threshold, role, len(of.KeyIDs)+1)
		}
		key, err := k.create(role)
		if err != nil {
			return err
		}
		if threshold > 0 {
			of.Threshold = threshold
		}
		return r.AddKey(key, role)
	})
}

func unknown(role string) error {
	return fmt.Errorf("there is no role %q; want %s", role, strings.Join(Roles(), ", "))
}

// Pending returns the root that waits for signatures, or nil. It needs no private
// key.
func (k *Keys) Pending() *Proposal {
	if k.next == nil {
		return nil
	}
	p := k.describe(k.next.Metadata)
	return &p
}

// SignRoot adds to the root that waits for signatures those of the keys that are
// here. Where none waits, and the newest root has less than a third of its time
// left, it makes one that has the same keys and more time. It returns nil if there
// was nothing to sign.
func (k *Keys) SignRoot() (*Proposal, error) {
	if k.next == nil {
		if !near(k.newest().Signed.Expires, k.time(), k.Expiry.Root) {
			return nil, nil
		}
		p, err := k.propose(func(*metadata.RootType) error { return nil })
		return &p, err
	}
	var p Proposal
	err := k.locked(func() (err error) {
		if k.next == nil {
			return fmt.Errorf("%s was completed meanwhile", k.path(nextName))
		}
		p, err = k.signNext(k.next.Metadata)
		return err
	})
	return &p, err
}

// propose makes a changed copy of the newest root and signs it.
func (k *Keys) propose(change func(*metadata.RootType) error) (p Proposal, err error) {
	err = k.locked(func() error {
		if k.next != nil {
			return fmt.Errorf("%w: complete %s by keys sign, or remove it", ErrPending, k.path(nextName))
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
		next.Signed.Expires = k.time().Add(k.Expiry.Root)
		p, err = k.signNext(next)
		return err
	})
	return p, err
}

// signNext signs the root that follows the newest one, and keeps it under the name
// that it deserves.
func (k *Keys) signNext(next *metadata.Metadata[metadata.RootType]) (p Proposal, err error) {
	if err := k.plausible(next); err != nil {
		return p, err
	}
	for id := range k.rootKeys(next) {
		if slices.Contains(signers(next, next), id) || k.newest() != nil && slices.Contains(signers(k.newest().Metadata, next), id) {
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
	p = k.describe(next)
	data, err := encode(next)
	if err != nil {
		return p, err
	}
	if len(p.Missing) > 0 {
		return p, k.write(nextName, data, 0o644)
	}
	if err := k.write(rootFile(next.Signed.Version), data, 0o644); err != nil {
		return p, err
	}
	if err := k.dir.Remove(nextName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	return p, nil
}

// rootKeys returns the ids of the keys that may sign a root.
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

// plausible returns an error for a root that must not be signed: it may come from
// another machine.
func (k *Keys) plausible(next *metadata.Metadata[metadata.RootType]) error {
	no := func(format string, a ...any) error {
		return fmt.Errorf("%s: %s; remove it and begin anew", k.path(nextName), fmt.Sprintf(format, a...))
	}
	r := &next.Signed
	switch {
	case r.Version != int64(len(k.roots))+1:
		return fmt.Errorf("%s is version %d, and the newest root here is version %d; copy those between here", k.path(nextName), r.Version, len(k.roots))
	case !r.Expires.After(k.time()):
		return no("it has expired")
	case !r.ConsistentSnapshot || len(r.Roles) != len(Roles()):
		return no("it is not as this tool makes roots")
	}
	for _, role := range Roles() {
		of := r.Roles[role]
		if of == nil || of.Threshold < 1 || of.Threshold > len(of.KeyIDs) {
			return no("its role %s makes no sense", role)
		}
		for _, id := range of.KeyIDs {
			key := r.Keys[id]
			if key == nil || key.Type != metadata.KeyTypeEd25519 {
				return no("the key %s is no Ed25519 key", short(id))
			}
			if is, err := key.ID(); err != nil || is != id {
				return no("the key %s has another id", short(id))
			}
		}
	}
	return nil
}

// describe tells of a root that follows the newest one.
func (k *Keys) describe(next *metadata.Metadata[metadata.RootType]) Proposal {
	p := Proposal{Version: next.Signed.Version, Expires: next.Signed.Expires, Changes: []string{}, Missing: []Missing{}}
	if old := k.newest(); old != nil {
		p.Changes = changes(&old.Signed, &next.Signed)
		p.Missing = missing(p.Missing, old.Metadata, next)
	}
	p.Missing = missing(p.Missing, next, next)
	return p
}

// missing appends which signatures a root demands of the next one and that it lacks.
func missing(all []Missing, by, next *metadata.Metadata[metadata.RootType]) []Missing {
	role := by.Signed.Roles[Root]
	have := signers(by, next)
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

// signers returns the ids of the root keys of one root that have signed another.
func signers(by, next *metadata.Metadata[metadata.RootType]) (ids []string) {
	for _, id := range by.Signed.Roles[Root].KeyIDs {
		alone := *by
		alone.Signed.Roles = map[string]*metadata.Role{Root: {KeyIDs: []string{id}, Threshold: 1}}
		if alone.VerifyDelegate(Root, next) == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// changes tells in what two roots differ.
func changes(old, next *metadata.RootType) []string {
	all := []string{}
	for _, role := range Roles() {
		before, after := old.Roles[role], next.Roles[role]
		for _, id := range without(after.KeyIDs, before.KeyIDs) {
			all = append(all, fmt.Sprintf("%s gets the key %s", role, short(id)))
		}
		for _, id := range without(before.KeyIDs, after.KeyIDs) {
			all = append(all, fmt.Sprintf("%s loses the key %s", role, short(id)))
		}
		if before.Threshold != after.Threshold {
			all = append(all, fmt.Sprintf("%s needs %d signatures, not %d", role, after.Threshold, before.Threshold))
		}
	}
	return all
}

// without returns what of a list is not in another, sorted.
func without(list, other []string) []string {
	set := make(map[string]bool)
	for _, s := range list {
		set[s] = !slices.Contains(other, s)
	}
	maps.DeleteFunc(set, func(_ string, there bool) bool { return !there })
	return slices.Sorted(maps.Keys(set))
}

// encode returns metadata as a file.
func encode[T metadata.Roles](m *metadata.Metadata[T]) ([]byte, error) {
	data, err := m.ToBytes(true)
	return append(data, '\n'), err
}

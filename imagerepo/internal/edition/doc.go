// Package edition replaces what a place of files publishes by another edition, so that at
// every instant clients find there what its documents say. Package publish does that with a
// mirror and a host.
//
//	Source ────── edition ───┐
//	                         ├─ compare ── Plan ── phases ── store
//	store ────── Inventory ──┘
//
// # Phases
//
// Each ends before the next begins:
//
//	enter     enter all names into the record
//	send      send payload. New payload gets its name when it is there whole; torrents, and
//	          changed payload, which has another content than under its name at the store,
//	          stay aside. Write the signed files that the timestamp will name
//	takeOut   write the documents of the store again, without what will change
//	release   give changed payload its names, then torrents, which clients find by the names
//	          of their files
//	publish   write meta, page, index and CKSUMS, then the lists of digests
//	trust     write the timestamp, then new roots, which the old keys that sign the timestamp
//	          lead to; roots first where the store has none
//	settle    record what the store has, and since when the rest are orphans
//	remove    remove orphans after their grace, torrents before their files
//
// The digest of payload is compared while it is sent, so a file that changed since the
// documents were made ends the run before clients see any change.
//
// A list of digests that names a document is written without it before the document
// changes, and with it afterwards. So whenever a run ends, all is true that a file at the
// store says of others, and the next run continues.
//
// # Signatures
//
// A client that verifies signatures reads signed copies of the documents. Where something is
// taken out, these must be signed again: given the keys, the store gets a signed edition of
// its own documents without what changes, and then the new one, signed once more with a later
// version. Without the keys, clients that verify get a wrong digest for exactly the changed
// files, from release to trust, and keep what they have.
//
// If the keys were changed, and the new edition was signed more than once since, no order of
// timestamp and roots is right for a client with the old root. Given the keys, takeOut then
// leads such a client to the new root by a signed edition of the store's own documents.
//
// # What is there
//
// The file .published.json of a store has what was put there, see package record. Only what
// it has is ever removed. A store without it, such as one that rsync has filled, is taken
// over: payload by its names and sizes, see Verify.
package edition

package squash

// files adds the blocks of all files.
func (m *image) files() {
	t := table{m: m, next: m.inodeTable, end: m.directoryTable}
	for range m.inodes {
		kind := t.u16()
		t.skip(14)
		switch kind {
		case 1: // a directory
			t.skip(16)
		case 8: // the same, with an index
			t.skip(16)
			n := t.u16()
			t.skip(6)
			for range n {
				t.skip(8)
				t.skip(uint64(t.u32()) + 1)
			}
		case 2, 9:
			m.file(&t, kind == 9)
		case 3: // a symbolic link
			t.skip(4)
			t.skip(uint64(t.u32()))
		case 10: // the same, with attributes
			t.skip(4)
			t.skip(uint64(t.u32()) + 4)
		case 4, 5: // a device
			t.skip(8)
		case 11, 12:
			t.skip(12)
		case 6, 7: // a pipe or a socket
			t.skip(4)
		case 13, 14:
			t.skip(8)
		default:
			return
		}
		if t.ended {
			return
		}
	}
}

// file adds the blocks of a file.
func (m *image) file(t *table, extended bool) {
	var start, size uint64
	var fragment uint32
	if extended {
		start, size = t.u64(), t.u64()
		t.skip(12)
		fragment = t.u32()
		t.skip(8)
	} else {
		start, fragment = uint64(t.u32()), t.u32()
		t.skip(4)
		size = uint64(t.u32())
	}
	blocks := size / m.blockSize
	if fragment == noFragment && size%m.blockSize > 0 {
		blocks++
	}
	for ; blocks > 0 && !t.ended; blocks-- {
		start = m.data(start, t.u32())
	}
}

// data adds a block at an offset whose size is as the image has it, and returns the offset
// behind it.
func (m *image) data(offset uint64, size uint32) uint64 {
	n := uint64(size &^ plainData)
	if size&plainData == 0 {
		m.add(offset, n, false)
	}
	return offset + n
}

// fragmentBlocks adds the blocks of fragments.
func (m *image) fragmentBlocks() {
	var entry table
	for i := range m.fragments {
		if i%(metaLen/fragLen) == 0 {
			at := m.fragmentTable + i/(metaLen/fragLen)*8
			if size := uint64(len(m.bytes)); at < m.fragmentTable || at > size || size-at < 8 {
				return
			}
			at = le.Uint64(m.bytes[at:])
			entry = table{m: m, next: at, end: noTable}
		}
		start := entry.u64()
		m.data(start, entry.u32())
		entry.skip(4)
		if entry.ended {
			return
		}
	}
}

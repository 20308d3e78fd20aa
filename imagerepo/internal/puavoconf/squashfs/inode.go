package squashfs

// The types of inodes that the reader distinguishes. Those of extended ones are more by
// extended.
const (
	typeDirectory = 1
	typeFile      = 2
	typeLink      = 3
	typeBlock     = 4
	typeCharacter = 5
	typePipe      = 6
	typeSocket    = 7 // the last
	extended      = 7
)

const (
	noFragment = 0xffffffff
	inodeWork  = 64 // units of work for an inode
)

// inode is what is used of one.
type inode struct {
	kind     uint16 // a type that is not an extended one
	mode     uint16 // permissions
	user     uint16 // index of the ID
	group    uint16 // the same
	device   uint32 // its number
	size     uint64 // bytes of the file, of the target, or of the listing and 3
	start    uint64 // of the file, or of the listing from the directory table's start
	offset   uint32 // in the fragment, or in the listing's first block
	fragment uint32 // or noFragment
	rest     cursor // at the block sizes, or at the target
}

// readInode returns the inode that is referred to.
func (r *Reader) readInode(ref uint64) (inode, error) {
	if err := r.spend(inodeWork); err != nil {
		return inode{}, err
	}
	c := r.cursor(r.inodeTable+ref>>16, int(ref&0xffff))
	kind := c.u16()
	i := inode{kind: kind, fragment: noFragment, mode: c.u16(), user: c.u16(), group: c.u16()}
	c.skip(8)
	if c.err == nil && (kind == 0 || kind > typeSocket+extended) {
		c.err = damaged("an inode of type %d", kind)
	}
	switch kind {
	case typeDirectory, typeDirectory + extended:
		i.directory(&c)
	case typeFile, typeFile + extended:
		i.file(&c)
	case typeLink, typeLink + extended:
		c.skip(4)
		i.size = uint64(c.u32())
	case typeBlock, typeBlock + extended, typeCharacter, typeCharacter + extended:
		c.skip(4)
		i.device = c.u32()
	}
	if kind > extended {
		i.kind -= extended
	}
	i.rest = c
	return i, c.err
}

func (i *inode) directory(c *cursor) {
	if i.kind == typeDirectory {
		i.start = uint64(c.u32())
		c.skip(4)
		i.size = uint64(c.u16())
	} else {
		c.skip(4)
		i.size = uint64(c.u32())
		i.start = uint64(c.u32())
		c.skip(6)
	}
	i.offset = uint32(c.u16())
}

func (i *inode) file(c *cursor) {
	if i.kind == typeFile {
		i.start = uint64(c.u32())
		i.fragment = c.u32()
		i.offset = c.u32()
		i.size = uint64(c.u32())
		return
	}
	i.start = c.u64()
	i.size = c.u64()
	c.skip(12)
	i.fragment = c.u32()
	i.offset = c.u32()
	c.skip(4)
}

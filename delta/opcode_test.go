package delta

import (
	"strings"
	"testing"
)

// Commands are written as the table says, and read back.
func TestOpcodes(t *testing.T) {
	for _, c := range []struct {
		cmd  command
		want string
	}{
		{command{literal: true, length: 1}, "\x01"},
		{command{literal: true, length: 0x40}, "\x40"},
		{command{literal: true, length: 0x41}, "\x41\x41"},
		{command{literal: true, length: 0xff}, "\x41\xff"},
		{command{literal: true, length: 0x100}, "\x42\x01\x00"},
		{command{literal: true, length: 0xffff}, "\x42\xff\xff"},
		{command{literal: true, length: 0x1_0000}, "\x43\x00\x01\x00\x00"},
		{command{literal: true, length: 0xffff_ffff}, "\x43\xff\xff\xff\xff"},
		{command{literal: true, length: 0x1_0000_0000}, "\x44\x00\x00\x00\x01\x00\x00\x00\x00"},
		{command{offset: 0, length: 1}, "\x45\x00\x01"},
		{command{offset: 256, length: 5}, "\x49\x01\x00\x05"},
		{command{offset: 1 << 16, length: 1 << 8}, "\x4e\x00\x01\x00\x00\x01\x00"},
		{command{offset: 1<<8 - 1, length: 1<<8 - 1}, "\x45\xff\xff"},
		{command{offset: 1<<16 - 1, length: 1<<16 - 1}, "\x4a\xff\xff\xff\xff"},
		{command{offset: 1<<32 - 1, length: 1<<32 - 1}, "\x4f\xff\xff\xff\xff\xff\xff\xff\xff"},
		{command{offset: 1 << 32, length: 1 << 32}, "\x54\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00"},
	} {
		got := c.cmd.appendHeader(nil)
		if string(got) != c.want {
			t.Errorf("%+v: % x, want % x", c.cmd, got, c.want)
		}
		cs, err := newCommands(strings.NewReader("rs\x02\x36"+c.want), true)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := cs.next(); err != nil || back != c.cmd {
			t.Errorf("%+v: read back as %+v, %v", c.cmd, back, err)
		}
	}
}

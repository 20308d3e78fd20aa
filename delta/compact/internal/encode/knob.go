package encode

import (
	"encoding/binary"
	"os"

	"puavo-image-repository/delta"
)

var dumpName = os.Getenv("DUMPCOPIES")
var dumpBuf []byte

func dumpCopy(m delta.Copy) {
	if dumpName == "" {
		return
	}
	dumpBuf = binary.LittleEndian.AppendUint64(dumpBuf, uint64(m.Target))
	dumpBuf = binary.LittleEndian.AppendUint64(dumpBuf, uint64(m.Base))
	dumpBuf = binary.LittleEndian.AppendUint64(dumpBuf, uint64(m.Length))
}

func dumpAll(content, base []byte, groups []group) {
	if dumpName == "" {
		return
	}
	os.WriteFile(dumpName+".copies", dumpBuf, 0o644)
	os.WriteFile(dumpName+".content", content, 0o644)
	if os.Getenv("DUMPBASE") != "" {
		os.WriteFile(dumpName+".base", base, 0o644)
	}
	var b []byte
	for _, g := range groups {
		b = binary.LittleEndian.AppendUint64(b, uint64(g.at))
		b = binary.LittleEndian.AppendUint64(b, uint64(g.content))
	}
	os.WriteFile(dumpName+".groups", b, 0o644)
	os.Exit(0)
}

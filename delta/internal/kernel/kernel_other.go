//go:build !amd64 || purego

package kernel

var hasAVX2 = false // and stays so

func sampledFast([]uint32, []byte, int32) int { return 0 }

func recurFast([]byte, int, int) int { return -1 }

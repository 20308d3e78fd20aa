module puavo-image-repository

go 1.26.0

require (
	github.com/KarpelesLab/squashfs v1.2.0
	github.com/anchore/go-lzo v0.1.1
	github.com/balena-os/librsync-go v0.9.0
	github.com/klauspost/compress v1.20.3
	github.com/ulikunitz/xz v0.5.17
	github.com/zeebo/blake3 v0.2.4
	golang.org/x/crypto v0.58.0
)

require (
	github.com/balena-os/circbuf v0.1.3 // indirect
	github.com/hanwen/go-fuse/v2 v2.1.0 // indirect
	github.com/klauspost/cpuid/v2 v2.0.12 // indirect
	github.com/stretchr/testify v1.12.1 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

module puavo-image-repository/bench

go 1.26.0

require (
	golang.org/x/sys v0.49.0
	puavo-image-repository v0.0.0
)

require (
	github.com/klauspost/cpuid/v2 v2.0.12 // indirect
	github.com/zeebo/blake3 v0.2.4 // indirect
)

replace puavo-image-repository => ../

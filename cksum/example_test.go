package cksum_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"puavo-image-repository/cksum"
)

// Read a stream once for all its digests.
func ExampleRead() {
	sums, err := cksum.Read(context.Background(), strings.NewReader("123456789"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sums.CRC, sums.Size)
	fmt.Println(sums.SHA256)
	// Output:
	// 930766865 9
	// 15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225
}

// Digest a stream while it goes elsewhere.
func ExampleHash() {
	h := cksum.New()
	if _, err := io.Copy(io.MultiWriter(io.Discard, h), strings.NewReader("123456789")); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%.16s…\n", h.Sums().BLAKE3)
	// Output: b7d65b48420d1033…
}

// Add a file to a list.
func ExampleAppendCKSUMS() {
	lines, err := cksum.ParseCKSUMS(strings.NewReader("930766865 9 b.img\n"))
	if err != nil {
		log.Fatal(err)
	}
	lines = append(lines, cksum.Line{CRC: 4294967295, Size: 0, Name: "a.img"})
	os.Stdout.Write(cksum.AppendCKSUMS(nil, lines))
	// Output:
	// 4294967295 0 a.img
	// 930766865 9 b.img
}

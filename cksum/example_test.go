package cksum_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"sync"

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

// Read several streams at the same time, for all their digests.
func ExampleGroup() {
	var group cksum.Group
	var calls sync.WaitGroup
	streams := []string{"a", "123456789"}
	crcs := make([]uint32, len(streams))
	for i, stream := range streams {
		calls.Go(func() {
			sums, err := group.Read(context.Background(), strings.NewReader(stream))
			if err != nil {
				log.Fatal(err)
			}
			crcs[i] = sums.CRC
		})
	}
	calls.Wait()
	fmt.Println(crcs)
	// Output: [1220704766 930766865]
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

// Check a content by one of the digests that are known of it.
func ExampleSums_Fastest() {
	var known cksum.Sums // with a BLAKE3 it would be that one
	if err := known.SHA512.UnmarshalText([]byte("d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274ad27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85")); err != nil {
		log.Fatal(err)
	}
	want := known.Fastest()
	h := cksum.NewFor(want)
	if _, err := io.Copy(h, strings.NewReader("123456789")); err != nil {
		log.Fatal(err)
	}
	fmt.Println(h.Sums().Compare(want))
	// Output: true <nil>
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

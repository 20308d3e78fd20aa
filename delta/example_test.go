package delta_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"slices"
	"strings"

	"puavo-image-repository/delta"
)

// Bytes that stand for two images: the new one has another header, and an end.
var (
	common   = make([]byte, 64<<10)
	_, _     = rand.NewChaCha8([32]byte{}).Read(common)
	oldImage = slices.Concat([]byte("old header, "), common)
	newImage = slices.Concat([]byte("a new header, "), common, []byte(", and more"))
)

// Make a delta, and apply it.
func Example() {
	ctx := context.Background()
	index, err := delta.NewIndex(ctx, oldImage, delta.Options{Memory: 1 << 20})
	if err != nil {
		log.Fatal(err)
	}
	defer index.Close()
	var d bytes.Buffer
	if _, err := index.Diff(ctx, &d, newImage, nil); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d bytes for a target of %d\n", d.Len(), len(newImage))

	var target bytes.Buffer
	if err := delta.Patch(ctx, &target, bytes.NewReader(oldImage), &d, int64(len(newImage))); err != nil {
		log.Fatal(err)
	}
	fmt.Println("the target is right:", bytes.Equal(target.Bytes(), newImage))
	// Output:
	// 28 bytes for a target of 65560
	// the target is right: true
}

// Apply the delta of the package documentation: 5 bytes of the base from offset 256,
// and then XY.
func ExamplePatch() {
	d := strings.NewReader("rs\x026\x49\x01\x00\x05\x02XY\x00")
	base := bytes.NewReader(bytes.Repeat([]byte("abcdefgh"), 64))
	var target strings.Builder
	if err := delta.Patch(context.Background(), &target, base, d, 7); err != nil {
		log.Fatal(err)
	}
	fmt.Println(&target)
	// Output: abcdeXY
}

// See what a delta makes and needs before applying it, and what an error says of one
// that is cut short.
func ExampleInspect() {
	d := "rs\x026\x49\x01\x00\x05\x02XY\x00"
	stats, err := delta.Inspect(context.Background(), strings.NewReader(d))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("makes %d bytes, of which %d are new, from a base of at least %d\n", stats.Target(), stats.LiteralBytes, stats.BaseEnd)

	_, err = delta.Inspect(context.Background(), strings.NewReader(d[:len(d)-1]))
	fmt.Println("cut short:", errors.Is(err, delta.ErrFormat))
	// Output:
	// makes 7 bytes, of which 2 are new, from a base of at least 261
	// cut short: true
}

// Make a delta without the base, from its signature.
func ExampleSigner() {
	ctx := context.Background()
	form, err := delta.NewSignature(delta.RabinKarpBLAKE2, 2048, 0, int64(len(oldImage)))
	if err != nil {
		log.Fatal(err)
	}
	var signature bytes.Buffer
	s := delta.NewSigner(&signature, form)
	if _, err := s.Write(oldImage); err != nil {
		log.Fatal(err)
	}
	if err := s.Close(); err != nil {
		log.Fatal(err)
	}
	blocks, err := delta.LoadSignature(ctx, signature.Bytes())
	if err != nil {
		log.Fatal(err)
	}
	defer blocks.Close()
	var d bytes.Buffer
	stats, err := blocks.Diff(ctx, &d, newImage, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d blocks of %d bytes; the delta copies %d bytes\n", blocks.Blocks, blocks.BlockLen, stats.CopyBytes)
	// Output: 33 blocks of 2048 bytes; the delta copies 63488 bytes
}

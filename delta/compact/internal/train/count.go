package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"puavo-image-repository/delta/compact/internal/lzo"
	"puavo-image-repository/delta/compact/internal/squash"
	"puavo-image-repository/delta/compact/internal/token"
)

// count writes a table of how many blocks of images come back the same, and what their tokens
// take.
func count(images []string, out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "image\tblocks\tcome back\tmatches\tbits a match\t% of the blocks\t")
	for _, name := range images {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		blocks, err := squash.Packed(b)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		c, err := newCounter()
		if err != nil {
			return err
		}
		for i := 0; i < len(blocks); i += group {
			c.group(blocks[i:min(i+group, len(blocks))])
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.4f\t%.3f\t\n", filepath.Base(name), len(blocks), c.same, c.matches,
			8*float64(c.coded)/float64(c.matches), 100*float64(c.coded)/float64(c.packed))
	}
	return t.Flush()
}

// counter counts the blocks of an image, in groups that start as those of a delta do.
type counter struct {
	encoder                      *token.Encoder
	decoder                      *token.Decoder
	same, matches, coded, packed int
}

func newCounter() (c *counter, err error) {
	c = new(counter)
	if c.encoder, err = token.NewEncoder(token.Default); err == nil {
		c.decoder, err = token.NewDecoder(token.Default)
	}
	return c, err
}

// group counts a group. Blocks that are no blocks, or have tokens that can't be coded, do not
// come back; neither do those of a group whose stream does not bring the others back.
func (c *counter) group(blocks [][]byte) {
	var coded [][]byte
	var contents [][]byte
	for _, b := range blocks {
		tokens, content, err := lzo.Parse(b, token.MaxBlock)
		if err == nil {
			err = c.encoder.Add(content, tokens)
		}
		if err != nil {
			continue
		}
		coded, contents = append(coded, b), append(contents, content)
		c.packed += len(b)
		for _, t := range tokens {
			c.matches += min(1, int(t.Distance))
		}
	}
	stream := c.encoder.Finish(nil)
	c.coded += len(stream)
	c.decoder.Start(stream)
	for i, content := range contents {
		tokens, err := c.decoder.Next(nil, content)
		if err != nil {
			return
		}
		if again, err := lzo.Append(nil, content, tokens); err == nil && bytes.Equal(again, coded[i]) {
			c.same++
		}
	}
}

package meta_test

import (
	"errors"
	"fmt"
	"log"

	"puavo-image-repository/meta"
)

// Take a name from outside.
func ExampleParseName() {
	n, err := meta.ParseName("puavo-os-amxa-buster-2022-01-20-173248-amd64.img")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n.Prefix, n.Version, n.Arch)
	fmt.Println(n.Series())

	_, err = meta.ParseName("../passwd")
	fmt.Println(err)
	// Output:
	// puavo-os-amxa-buster 2022-01-20-173248 amd64
	// puavo-os-amxa-buster-amd64
	// "../passwd" is not an image's name (<prefix>-<YYYY-MM-DD-hhmmss>-<arch>.img, at most 180 bytes): its character 3 is "/" (U+002F); only letters a to z and A to Z, digits and . _ + - are allowed
}

// Find where a mirror has the delta between two images.
func ExampleDeltaName() {
	base, _ := meta.ParseName("puavo-os-amxa-buster-2022-01-17-120001-amd64.img")
	target, _ := meta.ParseName("puavo-os-amxa-buster-2022-01-20-173248-amd64.img")
	fmt.Println(meta.DeltaPath(meta.DeltaName(base, target)))
	// Output: rdiffs/puavo-os-amxa-buster-2022-01-17-120001--2022-01-20-173248-amd64.rdiff
}

// Read which images form a series.
func ExampleParseConfig() {
	all, err := meta.ParseConfig([]byte(`{"school": {
		"images": ["puavo-os-b-2022-01-20-173248-amd64.img", "puavo-os-a-2022-01-17-120001-amd64.img"],
		"extra_rdiffs": {}}}`))
	if err != nil {
		log.Fatal(err)
	}
	for _, series := range all {
		fmt.Println(series.Name)
		for _, image := range series.Images {
			fmt.Println(" ", image)
		}
	}
	// Output:
	// school
	//   puavo-os-a-2022-01-17-120001-amd64.img
	//   puavo-os-b-2022-01-20-173248-amd64.img
}

// A document that is not as it must be is ErrFormat.
func ExampleParseSeries() {
	_, err := meta.ParseSeries([]byte(`{"school": {"images": [{"filename": "ltsp.img"}]}}`))
	fmt.Println(errors.Is(err, meta.ErrFormat))
	// Output: true
}

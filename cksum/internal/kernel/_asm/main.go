// Command _asm writes the assembly of package kernel and its Go declarations. Run it
// by "go generate" in the folder of the package.
package main

import . "github.com/mmcloughlin/avo/build"

func main() {
	ConstraintExpr("!purego")
	reverseBits()
	sha512()
	Generate()
}

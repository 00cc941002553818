// Package build makes an image from the definition of a profile, puts it in place at once when it is complete, and
// keeps a replaced sandbox for the box that still runs from it.
//
// Package build starts no box. Begin with Run; the swap is in swap.go, the fingerprint of a definition in recipe.go.
package build

// Package kept has what boxes leave on the host when they go down: overlays, directories of their own, journals kept by
// the host, replaced images. Such parts are listed, written as a tar, and removed.
//
// Package kept touches nothing of a box with a record. Begin with Find.
package kept

// Package kept has what boxes leave on the host when they go down: overlays, their own directories, journals that the
// host keeps, replaced images. It lists them, writes one as a tar, and removes one.
//
// Package kept touches nothing of a box with a record. Begin with Find.
package kept

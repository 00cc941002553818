// Package storage has the directories that a box writes: it refuses overlays and binds that cannot work, makes the
// missing directories at a start, claims an overlay for one box, and removes what a failed start made.
//
// Package storage mounts nothing, which Apptainer does. Begin with RefuseTaken for the claim and Dirs.Make.
package storage

// Package storage has the directories that a box writes: it refuses overlays and binds that cannot work, makes the
// missing directories at a start, refuses an overlay of another box, and removes what a failed start made.
//
// Package storage mounts nothing, which Apptainer does. The saved record of a box is its claim to an overlay on this
// machine, and a mark on the overlay, the Owner, tells other machines. Begin with RefuseTaken, which looks for records,
// Claim.Make, which makes the mark, and Dirs.Make.
package storage

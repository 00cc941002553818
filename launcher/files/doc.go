// Package files has files as data: a Set is written, printed as commands for a person, and compared; a Removal is done
// or printed. Package files also has what package os lacks: replacing a file at once, removing what may be absent,
// quoting for bash.
//
// Package files knows no box and no profile, and imports no room but list, near and netsetup/small. Begin with Set, File and Quote.
package files

// Package files writes files from data and prints the same data as commands, and has what package os lacks: replacing
// a file at once, removing what may be absent, quoting for bash.
//
// Package files knows no box and no profile, and imports no other room. Begin with File and Quote.
package files

// Package hello is the built-in image builtin:hello: its process 1, which serves a page, and its root directory, made
// from the host's own programs.
//
// Package hello knows no box. Begin with Init, the process, and Make, the root directory.
package hello

// Package say makes text for a person: lines of a box that cannot harm a terminal, the live line of a step that takes
// long, lists of names.
//
// Package say knows no box. Writing to the terminal is left to cmd. Begin with LineWriter and Live.
package say

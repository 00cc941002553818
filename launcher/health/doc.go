// Package health judges whether a running box is well: whether the box still has what [ready] of its profile asks for. A
// look at a box is kept beside the record of the box, and a change has a Verdict.
//
// Package health starts nothing: package launcher acts on a Verdict, and room units has the timer. Begin with Look in
// look.go, Record.After in record.go, and Word in word.go, where all facts about a box become a word.
package health

// Package health judges whether a box that is up is well: whether the box still has what [ready] of its profile asks
// for. It looks at a box once, keeps what was found beside the record of the box, and says what follows from a change.
//
// Package health starts nothing: package launcher acts on a Verdict, and room units has the timer. Begin with Look in
// look.go, Record.After in record.go, and Word in word.go, where all facts about a box become one word.
package health

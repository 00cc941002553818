// Package doctor looks at the host and at boxes and says what is wrong, as checks: a verdict, what was found, why the
// finding matters, and the command that repairs it. The only change is a network namespace for a while, which plays an
// outside client.
//
// Package doctor is above package launcher and repairs nothing itself. Begin with Examine. What several looks need is
// in facts.go. The other files have the looks of one subject each: a list with the name of each check and the function
// behind the name. A new check is a function and a line in the list; a new part of a plan is a line in topic.go.
package doctor

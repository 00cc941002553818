// Package journal shows the logs of boxes as one: the journal inside a box that runs, Apptainer's files of a box that
// does not, several boxes merged by time.
//
// Package journal reads through a pipe from package enter. Begin with Show.
package journal

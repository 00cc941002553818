// Package enter runs commands in a box that is up and copies files into and out of it: through Apptainer, with boxrun
// itself as the program inside, on a terminal of the box's own where one is asked for.
//
// Package enter starts and stops no box. Begin with Run for the part outside and Inside for the part in the box; the
// connection between the two is in line.go, the terminal in terminal.go, the archive of a copy in archive.go.
package enter

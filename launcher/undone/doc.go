// Package undone keeps a record of each running box: what others undo again and again after repairs by the watch, since when, how
// often, by which programs, and how long the next repair waits.
//
// Package undone looks at no host and repairs nothing: package launcher brings what looks and repairs have found. Begin with Record
// in record.go, and with pause in thing.go.
package undone

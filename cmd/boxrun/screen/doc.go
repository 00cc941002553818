// Package screen shares a terminal among tasks side by side: each has a live line of its own, written over as the task
// goes on, and notes and results come above the live lines. The package knows neither verbs nor boxes, and filters
// nothing: the caller does.
//
// Begin reading at Screen.
package screen

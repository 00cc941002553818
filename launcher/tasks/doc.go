// Package tasks runs tasks side by side, each after the tasks before. What a task does, package tasks does not know.
//
// Begin reading at Run.
package tasks

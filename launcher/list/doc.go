// Package list has what package slices lacks. It knows nothing of boxrun, and imports no other room.
package list

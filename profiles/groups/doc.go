// Package groups tells whether the group of a file is its owner alone, as useradd makes groups.
//
// The package knows no profiles. Begin with OwnerOnly in alone.go.
package groups

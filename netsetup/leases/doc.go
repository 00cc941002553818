// Package leases reads and collects the leases of CNI's plugin host-local: files by which an owner holds an address.
//
// The package knows no networks and no boxes: callers name the directories. Begin with Below and Collect in leases.go.
package leases

// Package bus asks the host's services on D-Bus: firewalld, and the network managers. The package decides nothing, and
// must not know plans or boxes. Begin with [Bus.Find]; firewalld.go has the calls of firewalld.
package bus

// Package units has all that boxrun does with the host's systemd: the text of its units, enable and disable, the
// transient service that a box is started in, and the watch over firewalld.
//
// Package units knows no rules of the network. The unit files are beside the code; begin with units.go for their text,
// enable.go for the verbs, transient.go for the service of one start.
package units

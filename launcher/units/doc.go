// Package units has all that boxrun does with the host's systemd: the text of its units, enable and disable, the
// transient service that a box is started in, and the stop of services. systemd supervises the box of an enabled
// profile; watch.go has the units that run "boxrun repair", room watch what is behind boxrun-watch@host.service.
//
// Package units knows no rules of the network. The unit files are beside the code; begin with units.go for their text
// and names, enable.go for the verbs, service.go for the service of one start, host.go for the connection.
package units

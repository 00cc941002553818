// Package guest talks to the init in a box: asks its systemd, waits until the box is ready, tells the init to halt and
// kills what does not end.
//
// Package guest is given processes and addresses; records and profiles of boxes are unknown here. Begin with
// Readiness.Wait and Stop.
package guest

// Package machine tells the systemd-machined of the host of boxes, so that machinectl, "systemctl -M" and
// "journalctl -M" know a box by the box's name. machined forgets a box by itself when the scope of the box ends.
//
// Package machine starts no box and has no lock. Begin with Register.
package machine

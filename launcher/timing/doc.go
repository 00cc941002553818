// Package timing tells where the time of an up went: what boxrun, the host's systemd, Apptainer with its CNI plugins, and
// the box's systemd each took. Whoever works notes what was done; the package asks nobody, and knows no boxes.
//
// Begin reading at Times.
package timing

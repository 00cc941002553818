// Package confine holds a box apart from the host: the capabilities, system calls, devices and mounts of each level of
// [security], and the first process of a confined box. This process brings them about and becomes the
// image's own init.
//
// Package confine knows no box and no Apptainer. Begin with level.go, then Init in init.go.
package confine

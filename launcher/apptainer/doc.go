// Package apptainer has all that boxrun knows of Apptainer: the command line and environment of a start,
// apptainer.conf, the record of an instance, Apptainer's processes, and the cause of a failed start in Apptainer's
// log.
//
// Package apptainer knows profiles but no boxes. Begin with Start.Argv, then Record and Command. Functions named in
// comments and not found here are Apptainer's own.
package apptainer

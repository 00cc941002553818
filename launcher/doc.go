// Package launcher runs boxes: from a profile to a booted instance of Apptainer and back, and into it. A box is
// described by a profile (package profiles), its host's network by a plan (package netsetup); what belongs to neither
// is here: Apptainer's command lines, start and stop, the state and locks below /run/boxrun, commands and terminals
// inside.
//
// It prints nothing and does not exit: what there is to say is returned, or written to what the caller hands over. The
// executable has two parts to play inside boxes, process 1 of the built-in hello and the step into any box; main asks
// Inside for them before anything else.
package launcher

// Package doctor looks at the host and at boxes and says what is wrong, as checks with a verdict, what was found, why
// it matters and the command that mends it. Nothing is changed, but for a network namespace that plays an outside
// client.
//
// Package doctor is above package launcher and repairs nothing itself. Begin with Examine; each file has the checks of
// one subject.
package doctor

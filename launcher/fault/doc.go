// Package fault has the errors of all rooms: a Problem has a kind, a text and a hint for the person at the terminal. A
// Caution is a text and a hint that stop nothing.
//
// Package fault prints nothing and imports no other room. Begin with Problem and the Err values, which cmd turns into
// exit codes.
package fault

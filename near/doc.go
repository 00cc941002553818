// Package near guesses what a person meant by a mistyped word. The package knows nothing of boxrun, and imports no other
// room. Begin reading at Word in word.go.
package near

// Package near guesses which word of several a person meant by a word that is none of them. The package knows nothing of
// boxrun, and imports no other room. Begin reading at Word in word.go.
package near

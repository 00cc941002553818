// Package near says what a person may have meant by the name of an interface. The package knows no kernel.
package near

// Package near says what a person may have meant by the name of an interface. It must not know the kernel.
package near

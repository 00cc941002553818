// Package processtest starts small processes for tests of the rooms above package process.
package processtest

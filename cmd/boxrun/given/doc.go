// Package given has flags that differ from their defaults by being given: how long to wait, and how many lines to show. The
// package knows neither verbs nor boxes. Begin reading at Flag in flag.go.
package given

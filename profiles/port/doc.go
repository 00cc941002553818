// Package port reads and writes published ports in the forms that people know, and tells which ports overlap. The package
// knows neither profiles nor the host: whether a port is free is not asked here. Begin with Parse.
package port

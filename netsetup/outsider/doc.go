// Package outsider is a client outside the host, made for tries: a throw-away network behind a veth of the host. It must
// not know plans, rules and boxes. Begin with [Open] in outsider.go.
package outsider

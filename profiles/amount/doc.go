// Package amount reads and writes amounts of bytes as systemd does: "512M".
//
// The package knows no profiles. Begin with Parse in bytes.go.
package amount

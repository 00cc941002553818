// Package rules owns the text of iptables: it runs the programs of both backends, reads what iptables-save prints,
// takes each rule apart, and knows the names by which rules and chains are boxrun's. The package does not know what a
// rule does to a packet (package firewall does), and must not know plans, boxes or bridges (package netsetup). Begin
// with [Rule] and [Parse].
package rules

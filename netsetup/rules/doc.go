// Package rules owns the text of iptables: it runs the programs of both backends, reads what iptables-save prints, takes
// each rule apart, and knows by which names rules and chains are boxrun's. It says nothing of what a rule means for a
// packet (package firewall does) and must not know plans, boxes or bridges (package netsetup). Begin with [Rule] and
// [Parse].
package rules

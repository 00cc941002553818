// Package trace tells live, in words, why packets to and from a box die, and the rules met by packets on their way.
//
// The kernel is asked in two ways. The tracepoint kfree_skb tells of each dropped packet and, since Linux 5.17, the
// reason: a small program of the kernel's own machine (BPF) hands on the packets of the box (program.go, drops.go).
// nftables tells the rules met by a marked packet: a table owned by a socket of this process marks packets of the box
// (marks.go, steps.go). Program and table are held by descriptors, not by files: however the process ends, the kernel
// takes both away. Tracefs and the target TRACE of iptables would leave a mount and rules behind after a kill -9.
//
// The package changes nothing else, and knows no checks (package doctor). Begin with Run in trace.go; reasons.go turns
// the kernel's reasons into sentences.
package trace

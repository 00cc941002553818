// Package trace tells live, in words, why packets to and from a box die, and which rules they meet.
//
// Two things of the kernel are asked. The tracepoint kfree_skb tells of each packet that is dropped, and since Linux 5.17
// the reason: a small program of the kernel's own machine (BPF) hands on those of the box (program.go, drops.go). nftables
// tells which rules a packet meets, once a rule has marked the packet: a table that belongs to a socket of this process
// marks the box's (table.go, steps.go). Both are tied to descriptors, not to files: however the process ends, the
// kernel takes them away. Tracefs and iptables' TRACE would leave a mount and rules behind after a kill -9.
//
// The package changes nothing else and knows no checks (package doctor). Begin with Run in trace.go; reasons.go turns the
// kernel's reasons into sentences.
package trace

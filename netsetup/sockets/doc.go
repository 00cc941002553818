// Package sockets asks the kernel for the sockets that wait for packets of anyone, and looks in /proc for the processes
// behind the sockets. The kernel answers for the network namespace of the calling thread. The package changes nothing,
// and must not know which ports are asked for, nor boxes (package netsetup). Begin with [Waiting] and [Owners].
package sockets

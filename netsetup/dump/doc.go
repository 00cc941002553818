// Package dump asks the kernel for its lists of links, addresses, routes, rules and neighbours, and asks again where a
// list changed as it was read. Each function takes the handle of a network namespace: the host's or a box's; [InNetwork]
// works there. The package changes nothing but in [ForgetFlows], draws no conclusions from a list, and must not know
// plans, boxes or bridges (package netsetup). Begin with [Retry] and [Links].
package dump

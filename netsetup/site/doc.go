// Package site reads what the host's own files say of its network devices, to name the file behind a setting that is in
// the way of boxes: sysctl.d(5), modprobe.d(5), the files of systemd-networkd, dhcpcd and ConnMan. The package changes
// nothing, and must not know plans or boxes. Begin with [Overruled], [Withheld] and [Manages].
package site

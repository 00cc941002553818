// Package inotify knows how many inotify instances root has, and may have. The kernel counts them for each user, and
// root of every box is root of the host: each systemd takes a few. Without a free instance units of a box fail.
//
// Package inotify knows no boxes. Begin with Look.
package inotify

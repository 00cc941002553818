// Package conf has the files that boxrun binds over a box's /etc: masks of units, resolv.conf, hosts with the names of
// other boxes, environment, secrets.
//
// Package conf writes below the state directory only. Begin with Dir and Told, which says what a box is told.
package conf

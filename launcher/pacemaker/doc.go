// Package pacemaker tells what boxes the Pacemaker of this host manages, from the file of the cluster's configuration. The package
// asks no daemon, and changes nothing.
//
// Begin reading at ManagerOf.
package pacemaker

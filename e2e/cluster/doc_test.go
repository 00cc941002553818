// Package cluster tests boxes on three hosts that Corosync and Pacemaker make a cluster of, with a switch that cuts their
// power. It needs root and BOXRUN_CLUSTER.
package cluster

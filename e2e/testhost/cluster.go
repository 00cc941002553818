package testhost

import (
	"context"
	_ "embed"
)

//go:embed cluster.finish.sh
var clusterFinish string

// clusterRecipe makes the host with Pacemaker and Corosync, with both of their shells, and with what judges agents. None
// of them runs until a test starts them.
func clusterRecipe() recipe {
	return besideHost("cluster", "pacemaker,pacemaker-cli-utils,corosync,resource-agents,crmsh,pcs,libxml2-utils,shellcheck,openssh-server,python3,postgresql-client,keepalived,haproxy", clusterFinish)
}

// NewForCluster is New for a host with Pacemaker and Corosync installed, and neither of them running.
func NewForCluster(ctx context.Context, progress func(string)) (*Host, error) {
	return newHost(ctx, clusterRecipe(), progress)
}

package main

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) disableCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "disable PROFILE...",
		Short: "No longer start boxes at boot",
		Long: "disable takes back what enable did. A box that is up stays up, and is started again if it dies, until it goes down.\n" +
			"With the last enabled box the units in /etc/systemd/system go.",
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completeProfiles,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := a.needRootFor("disable", names); err != nil {
				return err
			}
			return a.each(cmd, names, a.disable)
		},
	}
}

func (a *app) disable(ctx context.Context, name string) error {
	p, err := a.search.Load(name)
	if err != nil {
		return err
	}
	l, err := a.launcher()
	if err != nil {
		return err
	}
	was, err := l.Disable(ctx, p)
	if err != nil {
		return err
	}
	if !was {
		a.notef("%s: is not enabled", p.Name)
		return nil
	}
	a.notef("%s: is no longer started at boot", p.Name)
	return nil
}

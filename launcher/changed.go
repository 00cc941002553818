package launcher

import (
	"context"
	"errors"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/limits"
	"boxrun/launcher/network"
	"boxrun/profiles"
)

// Now is the profile of a box as it is on the disk.
type Now struct {
	profiles.Profile
	Unread error // why there is no Profile
}

// NowOf returns the profile that the next start of the box would take. Where people keep profiles, a file takes the place of
// a built-in profile of the same name.
func NowOf(s *box.Store, b *box.Box) Now {
	if strings.HasPrefix(b.Profile.File, "builtin:") {
		p, err := s.Search.Load(b.Profile.Word())
		return Now{p, err}
	}
	p, err := b.Profile.Ref().Read()
	return Now{p, err}
}

// What became of a profile since the start of its box.
const (
	ProfileChanged = "changed" // only a new start gives the box what the profile says
	PortsChanged   = "ports"   // nothing but published ports, who may reach them, or limits: an up follows while the box runs
	LimitsChanged  = "limits"  // nothing but the limits changed: an up sets them while the box runs
	ProfileRemoved = "removed"
	ProfileInvalid = "invalid"
)

// change returns what became of the profile since the start of the running box; "" for nothing, and for a profile of which
// nobody can tell.
func (n Now) change(s *box.Store, b *box.Box) string {
	var wrong profiles.Errors
	switch {
	case errors.Is(n.Unread, profiles.ErrNotFound):
		return ProfileRemoved
	case errors.As(n.Unread, &wrong):
		return ProfileInvalid
	case n.Unread != nil:
		return ""
	case !limits.MadeOf(s, b, n.Profile):
		return ProfileChanged
	case network.Republishes(b, n.Profile):
		return PortsChanged
	case n.Resources != b.Profile.Resources:
		return LimitsChanged
	}
	return ""
}

// Changes is what differs between a running box and a start of now.
type Changes struct {
	Profile string   // one of the words above; "" for the profile of the start
	Image   string   // replaced or removed; "" for the image of the start
	Secrets []string // names of secrets with changed files
}

// ChangesOf compares a running box with its profile as it is now.
func ChangesOf(ctx context.Context, s *box.Store, b *box.Box, now Now) Changes {
	c := Changes{Profile: now.change(s, b), Image: b.ImageNow(ctx)}
	if now.Unread == nil {
		c.Secrets = conf.ChangedSecrets(ctx, s, now.Profile)
	}
	return c
}

// Words names the changes: profile, image, secrets.
func (c Changes) Words() []string {
	words := []string{}
	if c.Profile != "" {
		words = append(words, "profile")
	}
	if c.Image != "" {
		words = append(words, "image")
	}
	if len(c.Secrets) > 0 {
		words = append(words, "secrets")
	}
	return words
}

// Live reports whether an up brings the change of the profile to the running box.
func (c Changes) Live() bool { return c.Profile == LimitsChanged || c.Profile == PortsChanged }

// anew reports whether only a new start brings the changes to the box.
func (c Changes) anew() bool {
	return c.Profile != "" && !c.Live() || c.Image != "" || len(c.Secrets) > 0
}

package doctor

import (
	"context"
	"slices"

	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/launcher/lan"
	"boxrun/netsetup"
	"boxrun/profiles"
)

// Subject is what to examine beside the host: a box, or all boxes for the zero Subject.
type Subject struct {
	Name    string            // of the box
	Profile *profiles.Profile // of that name; nil where no profile is at hand

	Now func(context.Context, *box.Box) launcher.Now // of a box, as up would take or refuse the profile; nil: nobody compares
}

// Examine examines the host, and the path of packets into and out of the subject, port by port. For a profile without
// a box the checks say what up would refuse.
//
// Nothing is changed. To see connections pass, Examine makes a network of its own, and removes it before it returns.
// The error is ErrNotFound where there is neither a box nor a profile of the subject's name.
func Examine(ctx context.Context, l *launcher.Launcher, s Subject) ([]Check, error) {
	if s.Name != "" && s.Profile == nil {
		if _, err := l.Find(s.Name); err != nil {
			return nil, err
		}
	}
	f, err := newFacts(l)
	if err != nil {
		return nil, err
	}
	boxes := slices.DeleteFunc(slices.Clone(f.boxes), func(b *box.Box) bool { return s.Name != "" && b.Name != s.Name })
	looks := sharedLooks(f)
	if len(boxes) == 0 && s.Profile != nil {
		looks = append(looks, profileLook(l, *s.Profile))
	}
	defer f.openOutside(boxes)()
	for _, b := range boxes {
		looks = append(looks, boxState{l, b, s.Now}.list()...)
		looks = append(looks, boxLooks{f, b}.list()...)
	}
	return f.hintCloud(pointed(run(ctx, looks)), boxes), nil
}

// sharedLooks returns the looks at everything but single boxes.
func sharedLooks(f *facts) []look {
	return slices.Concat(hostLooks{f}.list(), networkLooks{f}.list(), leftoverLooks{f}.list())
}

// profileLook reports what up would refuse for a profile without a box.
func profileLook(l *launcher.Launcher, p profiles.Profile) look {
	return look{area: p.Name, name: "profile", run: func(ctx context.Context) []Check {
		return withKernel(l.Store, func(k *netsetup.Kernel) []Check {
			if err := l.Refuse(ctx, k, p); err != nil {
				return failures(err, "boxrun up refuses it")
			}
			checks := []Check{warn("nothing keeps it from coming up", "boxrun up "+p.Name, "the box is not up")}
			parent, _ := lan.Parent(p) // as Refuse has looked
			for _, c := range lan.Cautions(parent) {
				checks = append(checks, warn("the box will have a MAC of its own", c.Hint, "%s", c.Text).named("LAN"))
			}
			return checks
		})(ctx)
	}}
}

package doctor

import (
	"context"
	"slices"

	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/launcher/network"
	"boxrun/profiles"
)

// Examine examines the host, and the path of packets into and out of the box name, port by port. With name "" all
// boxes are examined. p is the profile of that name, or nil: for a profile without a box the checks say what up would
// refuse.
//
// Nothing is changed. To see connections pass, Examine makes a network of its own, and removes it before it returns.
// The error is ErrNotFound where there is neither a box nor a profile of that name.
func Examine(ctx context.Context, l *launcher.Launcher, name string, p *profiles.Profile) ([]Check, error) {
	if name != "" && p == nil {
		if _, err := l.Find(name); err != nil {
			return nil, err
		}
	}
	f, err := newFacts(l)
	if err != nil {
		return nil, err
	}
	subjects := f.boxes
	if name != "" {
		subjects = slices.DeleteFunc(slices.Clone(f.boxes), func(b *box.Box) bool { return b.Name != name })
	}
	looks := sharedLooks(f)
	if len(subjects) == 0 && p != nil {
		looks = append(looks, profileLook(l, *p))
	}
	defer f.openOutside(subjects)()
	for _, b := range subjects {
		looks = append(looks, boxLooks{f, b}.list()...)
	}
	return f.hintCloud(pointed(run(ctx, looks)), subjects), nil
}

// sharedLooks returns the looks at everything but single boxes.
func sharedLooks(f *facts) []look {
	return slices.Concat(hostLooks{f}.list(), networkLooks{f}.list(), leftoverLooks{f}.list())
}

// profileLook reports what up would refuse for a profile without a box.
func profileLook(l *launcher.Launcher, p profiles.Profile) look {
	return look{p.Name, "profile", func(context.Context) []Check {
		k, err := network.OpenKernel()
		if err != nil {
			return []Check{broken(err)}
		}
		defer k.Close()
		err = l.Refuse(k, p)
		if err == nil {
			return []Check{warn("nothing keeps it from coming up", "boxrun up "+p.Name, "the box is not up")}
		}
		return failures(err, "boxrun up refuses it")
	}}
}

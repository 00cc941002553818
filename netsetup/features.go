package netsetup

import (
	"slices"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/offload"
	"boxrun/netsetup/six"
)

// Features turns off what a device leaves to others, as offload.Turn says.
type Features struct{ offload.Turn }

func (f *Features) commands() (up, down []string) { return f.Commands() }

func (f *Features) record(k *Kernel) error { return f.Record(k.view()) }

func (f *Features) check(k *Kernel) ([]string, error) { return f.Check(k.view()) }

func (f *Features) ensure(k *Kernel) error { return f.Ensure(k.view()) }

func (f *Features) undo(k *Kernel) error { return f.Undo(k.view()) }

func (f *Features) repairCommands(k *Kernel) ([]string, error) { return f.RepairCommands(k.view()) }

// features returns the steps of the plan that turn features off.
func (p Plan) features() []*Features {
	return slices.DeleteFunc([]*Features{p.Features, p.Outward}, func(f *Features) bool { return f == nil })
}

// Kept returns the features of the plan that are to be off and stay on against everybody's wish, or because the driver has
// fixed them. Apply and Drift leave such features aside, as nothing can be done: boxes work all the same on most hosts.
func (p Plan) Kept(k *Kernel) (kept []string, err error) {
	for _, f := range p.features() {
		names, err := f.Kept(k.view())
		if err != nil {
			return kept, err
		}
		kept = append(kept, names...)
	}
	return kept, nil
}

// Reconsider notes the first state of devices whose offload an uplink of the host needs off by now, and reports whether
// the plan has to be saved before Apply.
func (p Plan) Reconsider(k *Kernel) (changed bool, err error) {
	for _, f := range p.features() {
		if f.Auto && len(f.Before) == 0 && err == nil {
			err = f.record(k)
			changed = changed || len(f.Before) > 0
		}
	}
	return changed, err
}

// Inherit takes over what a plan of the same box knows of the first state of the box's veth, if the box has kept the veth.
func (p *Plan) Inherit(old Plan) {
	if old.Plug == nil || old.Plug.Veth != p.Plug.Veth {
		return
	}
	p.Plug = old.Plug
	for _, f := range p.features() {
		for _, o := range old.features() {
			if o.Device == f.Device && len(o.Before) > 0 {
				f.Before = o.Before
			}
		}
	}
}

// view returns the kernel as package offload sees it.
func (k *Kernel) view() offload.View {
	return offload.View{Eth: k.eth, Need: k.Uplinks, Enter: dump.InNetworkOf, Veth: func(pid int, device string) (string, error) {
		link, err := BoxLink(pid, device)
		return link.Veth, err
	}}
}

// Uplinks returns what the uplinks of the host need, looked up or kept.
func (k *Kernel) Uplinks() (offload.Need, error) {
	if k.need != nil {
		return *k.need, nil
	}
	lists, err := k.readLists(v4)
	if err != nil {
		return offload.Need{}, err
	}
	routes := lists.Routes
	if six.Possible() {
		lists6, err := k.readLists(v6)
		if err != nil {
			return offload.Need{}, err
		}
		routes = slices.Concat(routes, lists6.Routes)
	}
	need, err := offload.LookBy(k.eth, k.link, routes)
	if err == nil {
		k.need = &need
	}
	return need, err
}

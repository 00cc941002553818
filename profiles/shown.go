package profiles

// Shown is a profile for programs to read as JSON: times in seconds, sizes in bytes, ports as "boxrun ps" shows them.
// docs/json.md has the keys. The records of boxes keep the types of Profile.
type Shown struct {
	Profile
	Network   shownNetwork   `json:"network"`
	Storage   shownStorage   `json:"storage"`
	Systemd   shownSystemd   `json:"systemd"`
	Resources ShownResources `json:"resources"`
	Ready     shownReady     `json:"ready"`
	Health    shownHealth    `json:"health"`
}

// ShownResources is Resources for programs to read.
type ShownResources struct {
	Resources
	Unit  *string `json:"memory,omitempty"` // nil, in place of the text with a unit
	Bytes uint64  `json:"memory_bytes"`
}

type shownNetwork struct {
	Network
	Ports []string `json:"ports"`
}

type shownStorage struct {
	Storage
	Unit  *string `json:"overlay_size,omitempty"` // nil, as above
	Bytes uint64  `json:"overlay_size_bytes"`
}

type shownSystemd struct {
	Systemd
	Nanoseconds *int64  `json:"stop_timeout,omitempty"` // nil, in place of the number without a unit
	Seconds     float64 `json:"stop_timeout_seconds"`
}

type shownReady struct {
	Ready
	Nanoseconds *int64  `json:"timeout,omitempty"` // nil, as above
	Seconds     float64 `json:"timeout_seconds"`
}

type shownHealth struct {
	Health
	NoInterval *int64  `json:"interval,omitempty"` // nil, as above
	NoTimeout  *int64  `json:"timeout,omitempty"`
	Interval   float64 `json:"interval_seconds"`
	Timeout    float64 `json:"timeout_seconds"`
}

// Shown returns the limits for programs to read.
func (r Resources) Shown() ShownResources {
	return ShownResources{Resources: r, Bytes: uint64(r.Memory)}
}

// Shown returns the profile for programs to read.
func (p Profile) Shown() Shown {
	ports := make([]string, len(p.Network.Ports))
	for i, port := range p.Network.Ports {
		ports[i] = port.String()
	}
	return Shown{
		Profile:   p,
		Network:   shownNetwork{Network: p.Network, Ports: ports},
		Storage:   shownStorage{Storage: p.Storage, Bytes: uint64(p.Storage.OverlaySize)},
		Systemd:   shownSystemd{Systemd: p.Systemd, Seconds: p.Systemd.StopTimeout.Seconds()},
		Resources: p.Resources.Shown(),
		Ready:     shownReady{Ready: p.Ready, Seconds: p.Ready.Timeout.Seconds()},
		Health:    shownHealth{Health: p.Health, Interval: p.Health.Interval.Seconds(), Timeout: p.Health.Timeout.Seconds()},
	}
}

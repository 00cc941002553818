package guest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"boxrun/launcher/fault"
	"boxrun/launcher/list"
	"boxrun/launcher/process"
	"boxrun/launcher/say"
)

// Readiness lists what a box must reach before it is up.
type Readiness struct {
	Init    process.Process
	Addr    netip.Addr // target of TCP and HTTP checks, reached from the host: 127.0.0.1 inside is not enough
	Timeout time.Duration
	Units   []string // must be active
	TCP     []uint16 // ports that must accept
	HTTP    []string // URLs that must answer 2xx or 3xx, in the form of profiles.Ready

	Live func(string)                                           // shows the current wait; may be nil
	Tail func(ctx context.Context, unit string, n int) []string // the last n lines of a unit's journal
}

// tailLines is the number of journal lines to show for a failed unit.
const tailLines = 5

// FailedUnit is a failed unit with its last log lines.
type FailedUnit struct {
	Unit string
	Log  []string
}

// NotReady is the error for a box that is not ready in time, or never will be.
type NotReady struct {
	Unmet  []string // each unmet check: "unit nginx.service failed (exit-code)", "port 443 refuses connections"
	Failed []FailedUnit
	Took   time.Duration
}

func (n *NotReady) Error() string {
	return "not ready" + after(n.Took) + ": " + strings.Join(n.Unmet, "; ")
}

// after returns " after D" for a duration; "" if the duration rounds to zero.
func after(d time.Duration) string {
	if d = d.Round(100 * time.Millisecond); d > 0 {
		return " after " + d.String()
	}
	return ""
}

func (n *NotReady) Unwrap() error { return fault.ErrNotReady }

// Booted is what a box that is ready has to say of its units.
type Booted struct {
	Failed []FailedUnit // no error unless Units names them
	Wanted []string     // units to be there, by name; none without an answer
}

// Wait returns when the box's systemd has finished booting, the units are active, and the ports and URLs answer. A box
// with another init only has to pass the other checks.
//
// Errors: a *NotReady (ErrNotReady) after Timeout, or at once when the box can no longer become ready; ErrNotStarted
// when the box's init ends; the cause when ctx ends.
func (r Readiness) Wait(ctx context.Context) (Booted, error) {
	if !r.Addr.IsValid() && len(r.TCP)+len(r.HTTP) > 0 {
		return Booted{}, errors.New("the box has no address at which the host could look for its ports")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		if r.Init.Wait(ctx) == nil {
			cancel(initEnded())
		}
	}()
	return r.newWait().run(ctx)
}

// Seen is what a single look at a box found.
type Seen struct {
	State  string   // as from systemctl is-system-running inside; noSystemd, or "unknown" without an answer
	Failed []string // failed units; empty without an answer
	Unmet  []string // unmet checks
}

// Look looks at the box once, without waiting, until ctx ends at most.
func (r Readiness) Look(ctx context.Context) Seen {
	w := r.newWait()
	defer w.close()
	v := view{last: true}
	w.lookSystemd(ctx, &v)
	seen := Seen{State: cmp.Or(v.state, "unknown"), Failed: []string{}}
	if w.systemd != nil {
		if failed, err := w.systemd.failed(ctx); err == nil {
			seen.Failed = failed
		}
	}
	w.lookProbes(ctx, &v)
	seen.Unmet = v.unmet
	return seen
}

func initEnded() error {
	return &fault.Problem{Kind: fault.ErrNotStarted, Text: "the box's init ended while boxrun waited for it to be ready"}
}

// wait is a single wait for readiness.
type wait struct {
	Readiness
	began   time.Time
	probes  []*probe
	live    *say.Live
	systemd *Systemd // nil until systemd answers, and for a box without systemd

	leastLook time.Duration // time limit of a look near the end of the wait
}

func (r Readiness) newWait() *wait {
	return &wait{Readiness: r, began: time.Now(), probes: r.newProbes(), live: say.NewLive(r.Live), leastLook: time.Second}
}

func (w *wait) close() {
	w.live.End()
	w.disconnect()
}

func (w *wait) disconnect() {
	if w.systemd != nil {
		w.systemd.Close()
		w.systemd = nil
	}
}

// view is the result of a single look at the box.
type view struct {
	last     bool // no look will follow
	state    string
	unmet    []string // unmet checks
	waiting  string   // for the live line
	hopeless bool     // waiting longer does not help
}

// lacks adds an unmet check. The live line shows only the first thing waited for.
func (v *view) lacks(unmet, waiting string) {
	v.unmet = append(v.unmet, unmet)
	if v.waiting == "" {
		v.waiting = "waiting for " + waiting
	}
}

// run looks at the box until it is ready, Timeout is over, or waiting is hopeless. The last look comes after Timeout
// and covers every check, so the error is complete.
func (w *wait) run(ctx context.Context) (Booted, error) {
	defer w.close()
	for {
		v := view{last: time.Since(w.began) >= w.Timeout}
		w.look(ctx, &v)
		if ctx.Err() != nil {
			return Booted{}, context.Cause(ctx)
		}
		if !w.Init.Alive() { // the view of a dead box says nothing
			return Booted{}, initEnded()
		}
		if len(v.unmet) == 0 {
			failed, _ := w.failed(ctx, v.state) // ready, even if the failed units cannot be listed
			return Booted{Failed: failed, Wanted: w.wanted(ctx)}, nil
		}
		if v.last || v.hopeless {
			return Booted{}, w.notReady(ctx, v)
		}
		if v.waiting != "" {
			w.live.Say(v.waiting)
		}
		rest := w.Timeout - time.Since(w.began)
		pause := process.Pause(w.began, 30*time.Millisecond, 250*time.Millisecond)
		_ = process.Sleep(ctx, min(rest, pause)) // look sees ctx end
	}
}

// look asks systemd first. It probes the ports only when systemd is content, or in the last look: sshd counts probing
// connections, and takes them for an attack.
func (w *wait) look(ctx context.Context, v *view) {
	ctx, cancel := context.WithTimeout(ctx, w.patience())
	defer cancel()
	w.lookSystemd(ctx, v)
	if len(v.unmet) == 0 || v.last || v.hopeless {
		w.lookProbes(ctx, v)
	}
}

// patience returns the time limit of a single look. A box without answers must not delay the end of the wait.
func (w *wait) patience() time.Duration {
	return min(max(w.Timeout-time.Since(w.began), w.leastLook), 10*time.Second)
}

// lookSystemd adds what systemd reports. After an error the next look makes a new connection.
func (w *wait) lookSystemd(ctx context.Context, v *view) {
	err := w.lookBoot(ctx, v)
	switch {
	case err == nil:
		return
	case errors.Is(err, errNoSystemd):
		w.lookInit(v)
		return
	case errors.Is(err, context.DeadlineExceeded):
		v.lacks("systemd does not answer", "systemd to answer")
	default:
		v.lacks("systemd does not answer: "+err.Error(), "systemd to answer")
	}
	w.disconnect() // systemd may have re-executed itself and so ended the connection
}

// lookInit looks at an init without a systemd socket. A starting systemd will get a socket, and a script may become
// systemd; an init that is known for another has no units, however long anybody waits.
func (w *wait) lookInit(v *view) {
	is, err := runsSystemd(w.Init.PID)
	switch {
	case err != nil:
		v.lacks("the box's init cannot be looked at: "+err.Error(), "the box's init")
	case is:
		v.lacks("systemd has not come up", "systemd")
	default:
		v.state, v.hopeless = noSystemd, len(w.Units) > 0 && haltingOf(w.Init).known
		for _, u := range w.Units {
			v.lacks("unit "+u+": the box runs no systemd, but "+say.Printable(say.Cut(exeName(w.Init.PID), 40)), u)
		}
	}
}

// lookBoot looks at the progress of the boot, and at the units. During the boot lookBoot asks for more than the state
// only for somebody who watches, and for the error at the end of the wait.
func (w *wait) lookBoot(ctx context.Context, v *view) error {
	var err error
	if w.systemd == nil {
		if w.systemd, err = Dial(ctx, w.Init.PID); err != nil {
			return err
		}
	}
	if v.state, err = w.systemd.state(ctx); err != nil {
		return err
	}
	switch v.state {
	case "running", "degraded":
	case "maintenance":
		v.lacks("systemd is in maintenance mode, a rescue or emergency shell", "systemd to leave maintenance mode")
		v.hopeless = true
	case "stopping":
		v.lacks("systemd is shutting the box down", "the box to shut down")
	default:
		if !v.last && !w.live.Due() { // a systemd that answers more questions boots later
			v.unmet = append(v.unmet, "systemd has not finished booting")
			return nil
		}
		if err := w.lookJobs(ctx, v); err != nil {
			return err
		}
	}
	return w.lookUnits(ctx, v)
}

// lookJobs names the unit that holds up the boot.
func (w *wait) lookJobs(ctx context.Context, v *view) error {
	unit, since, err := w.systemd.starting(ctx)
	if err != nil {
		return err
	}
	if unit == "" {
		v.lacks("systemd has not finished booting", "systemd")
		return nil
	}
	v.lacks("systemd has not finished booting, it waits for "+unit+say.Seconds(since), unit+say.Seconds(since))
	return nil
}

// lookUnits looks at Units. After the boot a failed unit stays failed and a missing unit stays missing, so waiting is
// hopeless.
func (w *wait) lookUnits(ctx context.Context, v *view) error {
	if len(w.Units) == 0 {
		return nil
	}
	units, err := w.systemd.active(ctx, w.Units)
	if err != nil {
		return err
	}
	booted := v.state == "running" || v.state == "degraded"
	for _, u := range units {
		switch u.Active {
		case "active", "reloading", "refreshing":
			continue
		}
		v.lacks(u.unmet(), u.Name+say.Seconds(u.Since))
		if booted && (u.Active == "failed" || u.Load != "loaded") {
			v.hopeless = true
		}
	}
	return nil
}

// unmet describes the state of an inactive unit.
func (u unitStatus) unmet() string {
	switch {
	case u.Load == "not-found":
		return "unit " + u.Name + " does not exist in the box"
	case u.Load != "loaded":
		return "unit " + u.Name + " is " + u.Load
	case u.Active == "failed" && u.Result != "":
		return "unit " + u.Name + " failed (" + u.Result + ")"
	case u.Active == "failed":
		return "unit " + u.Name + " failed"
	default:
		return fmt.Sprintf("unit %s is %s (%s)%s", u.Name, u.Active, u.Sub, say.Seconds(u.Since))
	}
}

func (w *wait) lookProbes(ctx context.Context, v *view) {
	runProbes(ctx, w.probes)
	took := say.Seconds(time.Since(w.began))
	for _, p := range w.probes {
		if p.err != nil {
			v.lacks(p.what+" "+probeText(p.err), p.what+took)
		}
	}
}

// failed returns the failed units with the last lines of their logs, if state is degraded; otherwise none.
func (w *wait) failed(ctx context.Context, state string) ([]FailedUnit, error) {
	if state != "degraded" || w.systemd == nil {
		return nil, nil
	}
	units, err := w.systemd.failed(ctx)
	return list.Map(units, func(unit string) FailedUnit { return FailedUnit{unit, w.Tail(ctx, unit, tailLines)} }), err
}

// wanted returns the units that the box is to have: those of [ready], those wanted by multi-user.target, and what the services
// among them want, as postgresql.service wants postgresql@15-main.service.
func (w *wait) wanted(ctx context.Context) []string {
	if w.systemd == nil {
		return nil
	}
	wants := func(unit string) []string {
		return property[[]string](ctx, w.systemd.conn.GetUnitPropertyContext, unit, "Wants")
	}
	units := slices.Concat(w.Units, wants("multi-user.target"))
	for _, unit := range slices.Clone(units) {
		if strings.HasSuffix(unit, ".service") {
			units = append(units, wants(unit)...)
		}
	}
	return list.Map(slices.Compact(slices.Sorted(slices.Values(units))), say.Printable)
}

// notReady makes the error. The error lists failed units in every state of the boot. If systemd cannot list failed
// units, the unmet checks say enough.
func (w *wait) notReady(ctx context.Context, v view) error {
	failed, _ := w.failed(ctx, "degraded")
	return &NotReady{Unmet: v.unmet, Failed: failed, Took: time.Since(w.began)}
}

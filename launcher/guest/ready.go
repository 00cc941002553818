package guest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"boxrun/launcher/fault"
	"boxrun/launcher/process"
	"boxrun/launcher/say"
)

// Readiness is what a box must come to before it is up.
type Readiness struct {
	Init    process.Process
	Addr    netip.Addr // where TCP and HTTP are looked for: an address the host reaches, so that 127.0.0.1 inside is not enough
	Timeout time.Duration
	Units   []string // must be active
	TCP     []uint16 // ports that must accept
	HTTP    []string // URLs that must answer 2xx or 3xx, as profiles.Ready has them

	Live func(string)                                           // shows what is waited for; may be nil
	Tail func(ctx context.Context, unit string, n int) []string // the last n lines of a unit's journal; may be nil
}

// tailLines is how much of the journal of a failed unit a person is shown.
const tailLines = 5

// ready is what a box came to.
type ready struct {
	State  string // of its systemd: running or degraded; "" where it runs another init
	Failed []FailedUnit
	Took   time.Duration
}

// FailedUnit is a unit that failed, with its last log lines.
type FailedUnit struct {
	Unit string
	Log  []string
}

// NotReady says what a box lacks that is not ready in time, or never will be.
type NotReady struct {
	Unmet  []string // each check not met: "unit nginx.service failed (exit-code)", "port 443 refuses connections"
	Failed []FailedUnit
	Took   time.Duration
}

func (n *NotReady) Error() string {
	return "not ready" + after(n.Took) + ": " + strings.Join(n.Unmet, "; ")
}

// after gives how long something took, unless it was no time at all.
func after(d time.Duration) string {
	if d = d.Round(100 * time.Millisecond); d > 0 {
		return " after " + d.String()
	}
	return ""
}

func (n *NotReady) Unwrap() error { return fault.ErrNotReady }

// Wait returns when the box's systemd has finished booting, the units are active, and the ports and URLs answer. That
// boot left failed units (State degraded) is no error unless Units names one of them. A box that runs another init
// needs no more than that one and the other checks.
//
// Errors: a *NotReady (ErrNotReady) when that takes longer than Timeout, or at once when it cannot come true any more;
// ErrNotStarted when the box's init ends; the cause of ctx's end.
func (r Readiness) Wait(ctx context.Context) (ready, error) {
	if !r.Addr.IsValid() && len(r.TCP)+len(r.HTTP) > 0 {
		return ready{}, errors.New("the box has no address at which the host could look for its ports")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		if r.Init.Wait(ctx) == nil {
			cancel(initEnded())
		}
	}()
	w := &watch{Readiness: r, began: time.Now(), probes: r.newProbes(), line: say.NewLive(r.Live)}
	defer w.close()
	return w.run(ctx)
}

func initEnded() error {
	return &fault.Problem{Kind: fault.ErrNotStarted, Text: "the box's init ended while boxrun waited for it to be ready"}
}

// watch is one wait for readiness.
type watch struct {
	Readiness
	began   time.Time
	probes  []*probe
	line    *say.Live
	systemd *Systemd // nil until it can be asked, and where there is none
}

func (w *watch) close() {
	w.line.End()
	w.disconnect()
}

func (w *watch) disconnect() {
	if w.systemd != nil {
		w.systemd.Close()
		w.systemd = nil
	}
}

// view is what one look at the box shows.
type view struct {
	state    string
	unmet    []string // checks not met
	waiting  string   // for the live line
	hopeless bool     // waiting longer does not help
}

func (v *view) lacks(unmet, waiting string) {
	v.unmet = append(v.unmet, unmet)
	if v.waiting == "" {
		v.waiting = "waiting for " + waiting
	}
}

func (w *watch) run(ctx context.Context) (ready, error) {
	for {
		late := time.Since(w.began) >= w.Timeout
		v := w.look(ctx, late)
		if ctx.Err() != nil {
			return ready{}, context.Cause(ctx)
		}
		if !w.Init.Alive() { // what was seen says nothing then
			return ready{}, initEnded()
		}
		if len(v.unmet) == 0 {
			failed, _ := w.failed(ctx, v.state) // the box is ready, whether it says which units failed or not
			return ready{State: v.state, Failed: failed, Took: time.Since(w.began)}, nil
		}
		if late || v.hopeless {
			return ready{}, w.notReady(ctx, v)
		}
		w.line.Say(v.waiting)
		rest := w.Timeout - time.Since(w.began)
		_ = process.Sleep(ctx, min(rest, process.Pause(w.began, 10*time.Millisecond, 250*time.Millisecond))) // the next look sees ctx end
	}
}

// look asks systemd first and the ports only when that is content, or all is asked for: sshd counts connections that
// only come to look, and takes them for an attack.
func (w *watch) look(ctx context.Context, all bool) view {
	ctx, cancel := context.WithTimeout(ctx, w.patience())
	defer cancel()
	var v view
	w.lookSystemd(ctx, &v)
	if len(v.unmet) > 0 && !all && !v.hopeless {
		return v
	}
	w.lookProbes(ctx, &v)
	return v
}

// patience bounds one look, so that a box that answers nothing does not hold up the end of the wait.
func (w *watch) patience() time.Duration {
	return min(max(w.Timeout-time.Since(w.began), time.Second), 10*time.Second)
}

func (w *watch) lookSystemd(ctx context.Context, v *view) {
	err := w.connect(ctx)
	if err == nil {
		err = w.lookBoot(ctx, v)
	}
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
	w.disconnect() // it may have re-executed itself, which ends the connection
}

// lookInit looks at an init that cannot be asked: a systemd will come to it, another never does.
func (w *watch) lookInit(v *view) {
	is, err := runsSystemd(w.Init.PID)
	switch {
	case err != nil:
		v.lacks("the box's init cannot be looked at: "+err.Error(), "the box's init")
	case is:
		v.lacks("systemd has not come up", "systemd")
	default:
		for _, u := range w.Units {
			v.lacks("unit "+u+": the box runs no systemd", u)
		}
	}
}

func (w *watch) connect(ctx context.Context) (err error) {
	if w.systemd == nil {
		w.systemd, err = Dial(ctx, w.Init.PID)
	}
	return err
}

// lookBoot looks how far the boot is, and at the units.
func (w *watch) lookBoot(ctx context.Context, v *view) error {
	var err error
	if v.state, err = w.systemd.State(ctx); err != nil {
		return err
	}
	booted := false
	switch v.state {
	case "running", "degraded":
		booted = true
	case "maintenance":
		v.lacks("systemd is in maintenance mode, a rescue or emergency shell", "systemd to leave maintenance mode")
		v.hopeless = true
	case "stopping":
		v.lacks("systemd is shutting the box down", "the box to shut down")
	default:
		if err := w.lookJobs(ctx, v); err != nil {
			return err
		}
	}
	return w.lookUnits(ctx, v, booted)
}

func (w *watch) lookJobs(ctx context.Context, v *view) error {
	unit, since, err := w.systemd.Waiting(ctx, false)
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

// lookUnits looks at Units. After the boot a unit that failed stays so, and one that is not there will not come.
func (w *watch) lookUnits(ctx context.Context, v *view, booted bool) error {
	if len(w.Units) == 0 {
		return nil
	}
	units, err := w.systemd.Active(ctx, w.Units)
	if err != nil {
		return err
	}
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

// unmet says in what state a unit is that is not active.
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

func (w *watch) lookProbes(ctx context.Context, v *view) {
	took := say.Seconds(time.Since(w.began))
	for _, unmet := range runProbes(ctx, w.probes) {
		v.lacks(unmet.says, unmet.what+took)
	}
}

// failed gives the failed units with the last lines of their logs, where state says that there are any.
func (w *watch) failed(ctx context.Context, state string) ([]FailedUnit, error) {
	if state != "degraded" || w.systemd == nil {
		return nil, nil
	}
	units, err := w.systemd.Failed(ctx)
	failed := make([]FailedUnit, len(units))
	for i, u := range units {
		failed[i] = FailedUnit{Unit: u, Log: w.tail(ctx, u)}
	}
	return failed, err
}

func (w *watch) tail(ctx context.Context, unit string) []string {
	if w.Tail == nil {
		return nil
	}
	return w.Tail(ctx, unit, tailLines)
}

// notReady makes the error. Failed units are told as well, whatever state the boot is in; where they cannot be asked
// for, what is unmet says enough.
func (w *watch) notReady(ctx context.Context, v view) error {
	failed, _ := w.failed(ctx, "degraded")
	return &NotReady{Unmet: v.unmet, Failed: failed, Took: time.Since(w.began)}
}

package netsetup

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"boxrun/netsetup/leases"
)

// Reservation keeps another network of host-local on the same bridge from giving the address of a box to somebody else.
// The plugin takes an address with a file of the name for leased, whatever the file holds (backend/disk/backend.go of
// its source). Apptainer's own default network is such a network: it has the default bridge and subnet of boxrun, too.
type Reservation struct {
	Path  string `json:"path"`  // DIRECTORY/ADDRESS
	Owner string `json:"owner"` // boxrun:NAME
}

// reservations returns the reservations of an address in the lease directories of other networks.
func reservations(owner string, addr netip.Addr, dirs []string) []Reservation {
	var list []Reservation
	for _, dir := range dirs {
		list = append(list, Reservation{Path: filepath.Join(dir, addr.String()), Owner: owner})
	}
	return list
}

// reservationsBelow returns the reservations of all boxes, in dirs and in the directories a level below.
func reservationsBelow(dirs ...string) ([]Reservation, error) {
	held, err := leases.Below(dirs...)
	errs := []error{err}
	var found []Reservation
	for _, l := range held {
		owner, err := l.Owner()
		if strings.HasPrefix(owner, leases.ReservedBy) {
			found = append(found, Reservation{Path: l.Path, Owner: owner})
		}
		errs = append(errs, err)
	}
	return found, errors.Join(errs...)
}

// box returns the name of the box with the address.
func (r *Reservation) box() string { return strings.TrimPrefix(r.Owner, leases.ReservedBy) }

func (r *Reservation) String() string { return r.Path }

func (r *Reservation) commands() (up, down []string) {
	dir := filepath.Dir(r.Path)
	return []string{fmt.Sprintf("mkdir -p %s && echo %s > %s", dir, r.Owner, r.Path)},
		[]string{"rm -f " + r.Path, removeEmptyCommand(dir, filepath.Dir(dir))}
}

// record refuses an address that somebody else has leased meanwhile.
func (r *Reservation) record(*Kernel) error {
	owner, err := leases.Lease{Path: r.Path}.Owner()
	if err != nil || owner == "" || strings.HasPrefix(owner, leases.ReservedBy) {
		return err
	}
	return fmt.Errorf("address %s is taken by %v", filepath.Base(r.Path), claim{lease: r.Path})
}

func (r *Reservation) check(*Kernel) ([]string, error) {
	owner, err := leases.Lease{Path: r.Path}.Owner()
	switch {
	case err != nil || owner == r.Owner:
		return nil, err
	case owner == "":
		return []string{fmt.Sprintf("the lease %s is missing: another network on the bridge may give the address away", r.Path)}, nil
	}
	return []string{fmt.Sprintf("address %s is taken by %v, too", filepath.Base(r.Path), claim{lease: r.Path})}, nil
}

// ensure writes the lease. A lease of somebody else stays: only a restart gives the box another address.
func (r *Reservation) ensure(k *Kernel) error {
	dir := filepath.Dir(r.Path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	unlock, err := leases.Lock(dir, time.Second)
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.record(k); err != nil {
		return err
	}
	return os.WriteFile(r.Path, []byte(r.Owner+"\n"), 0o644)
}

// undo removes the lease, and the directories of the network and of all networks if they are empty: like enough boxrun
// made them. A boxrun that was killed while it reserved leaves the directories alone, or an empty lease. With the lock
// held nobody else is about to write such a lease.
func (r *Reservation) undo(*Kernel) error {
	dir := filepath.Dir(r.Path)
	unlock, err := leases.Lock(dir, time.Second)
	if err != nil {
		return err
	}
	defer unlock()
	owner, err := leases.Lease{Path: r.Path}.Owner()
	if err != nil || owner != "" && owner != r.Owner {
		return err
	}
	return errors.Join(ignoreAbsent(os.Remove(r.Path)), removeEmpty(dir, filepath.Dir(dir)))
}

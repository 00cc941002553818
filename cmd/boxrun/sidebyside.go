package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"boxrun/launcher/list"
	"boxrun/launcher/process"
	"boxrun/launcher/tasks"
	"boxrun/profiles"
)

// mostTasks limits the boxes worked on at a time.
const mostTasks = 16

// A task is what a verb does with a box, beside the tasks of other boxes. a prints for this task.
type task = func(ctx context.Context, a *app, name string) error

// each returns a verb that calls do for every name, in order, even after failures. With several names the verb prints
// the errors, and returns the exit code of the first failure as a codeError. With a single name the error of do is
// returned unprinted. An interrupt ends the loop.
func (a *app) each(do func(context.Context, string) error) verb {
	return func(cmd *cobra.Command, names []string) error {
		if len(names) == 1 {
			return do(cmd.Context(), names[0])
		}
		codes := make([]int, len(names))
		for i, name := range names {
			if cmd.Context().Err() != nil { // an interrupt stops all names
				return context.Cause(cmd.Context())
			}
			codes[i] = a.report(cmd, do(cmd.Context(), name))
		}
		return ended(cmp.Or(codes...))
	}
}

// sideBySide does a task for every name at once, even after failures. before returns the names of the boxes to be done
// before a box; names not asked for are skipped. The rest is as of each: an interrupt ends all tasks, and is a single
// error.
func (a *app) sideBySide(cmd *cobra.Command, names []string, before func(name string) []string, do task) error {
	ctx := cmd.Context()
	if len(names) == 1 {
		return do(ctx, a.forTask(names[0]), names[0])
	}
	process.Processors(len(names))
	codes := make([]int, len(names))
	tasks.Run(len(names), mostTasks, func(i int) []int { return indexes(names, i, before(names[i])) }, func(i int, turn *tasks.Turn) {
		one := a.forTask(names[i])
		one.beside, one.turn = true, turn
		err := do(ctx, one, names[i])
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			one.live("")
			return
		}
		codes[i] = one.report(cmd, named(one.task, err))
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return ended(cmp.Or(codes...))
}

// indexes returns where in names the boxes are to be done before names[i]: the boxes of before, and earlier mentions of
// the same box.
func indexes(names []string, i int, before []string) []int {
	var found []int
	for j, name := range names {
		box := profiles.BoxName(name)
		same := box == profiles.BoxName(names[i])
		if same && j < i || !same && slices.Contains(before, box) {
			found = append(found, j)
		}
	}
	return found
}

// named adds the name of a box to an error without the name: of several boxes the reader has to know the culprit.
func named(name string, err error) error {
	if err == nil || strings.Contains(err.Error(), name) {
		return err
	}
	return &taskError{name, err}
}

// taskError is the error of a task beside others.
type taskError struct {
	name string
	error
}

func (e *taskError) Error() string { return e.name + ": " + e.error.Error() }
func (e *taskError) Unwrap() error { return e.error }

// forTask returns a for the task of a box.
func (a *app) forTask(name string) *app {
	own := *a
	own.terminal = a.terminal.forTask(profiles.BoxName(name))
	return &own
}

// needed returns the names of the boxes needed by a profile; none where the profile cannot be read.
func (a *app) needed(name string) []string {
	p, err := a.search.Load(name)
	if err != nil {
		return nil
	}
	ps, err := a.search.Dependencies(p)
	if err != nil {
		return nil
	}
	return list.Map(ps, func(p profiles.Profile) string { return p.Name })
}

package migratecmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/reconcile"
)

// reportNothing prints that there is nothing to do.
func (o *reconcileOptions) reportNothing(s console.Streams) error {
	r := reconcile.Result{Ended: reconcile.EndedNothing, Why: "the plan has been carried out"}
	if o.output == "json" {
		return console.WriteJSON(s.Out, r)
	}
	return o.reportEnd(s, r, reconcile.Config{})
}

// withAdvice adds to an error of a run what a person can do about it.
func (o *reconcileOptions) withAdvice(err error) error {
	var refused *reconcile.RefusedError
	var locked *lock.HeldError
	var lacks *reconcile.MissingError
	switch {
	case errors.As(err, &lacks):
		return console.UsageError{Err: err}
	case errors.As(err, &refused) && len(refused.Changed) > 0:
		return fmt.Errorf("%w\n  %s", err, strings.Join(refused.Changed, "\n  "))
	case errors.As(err, &locked) && ownerGone(locked.State):
		return fmt.Errorf("%s is %w; %s", o.Name, err, o.unlockAdvice())
	case errors.As(err, &locked):
		return fmt.Errorf("%s is %w; if that process is gone, wait until then, or: muster reconcile unlock %s --force", o.Name, err, o.Args())
	}
	return err
}

// reportEnd prints how a run ended, and returns the error that its exit code comes from.
func (o *reconcileOptions) reportEnd(s console.Streams, r reconcile.Result, cfg reconcile.Config) error {
	say := func(format string, args ...any) {
		if o.output != "json" {
			fmt.Fprintf(s.Out, format+"\n", args...)
		}
	}
	switch r.Ended {
	case reconcile.EndedNothing:
		say("nothing to do: %s", r.Why)
	case reconcile.EndedDone:
		say("done   %s has topology %s   %s", o.Name, cfg.Plan.Problem.To, console.Count(len(cfg.Plan.Steps), "step", "steps"))
		say("evidence: muster report cluster %s -o %s.html", o.Args(), o.Name)
	case reconcile.EndedReturned:
		where := "where the plan began"
		if cfg.To > 0 {
			where = fmt.Sprintf("where it was after step %d", cfg.To)
		}
		say("back   %s is %s", o.Name, where)
	case reconcile.EndedAborted:
		say("aborted   %s: nothing of the plan is up that was to be there only for a while", o.Name)
		if r.Reached > 0 {
			say("what stands of it stays, steps 1 to %d; back: muster reconcile rollback %s; on: %s", r.Reached, o.Args(), cfg.Plan.Problem.Again(o.Args()))
		}
	case reconcile.EndedHolding, reconcile.EndedPaused:
		// Nothing failed. It is a person's turn, and why says where and how to let it go on.
		return console.Findings{Err: fmt.Errorf("%s; then go on with: %s", r.Why, strings.TrimSpace(o.resumeCommand(cfg.Direction)+" "+r.Confirm))}
	default:
		// The only action of a step has the title of the step.
		_, title, _ := strings.Cut(r.Step, ", ")
		why, evidence, _ := strings.Cut(strings.TrimPrefix(r.Why, title+": "), "\n")
		for _, line := range excerpt(evidence) {
			say("  %s", line)
		}
		how := "go on with: " + o.resumeCommand(cfg.Direction)
		if len(r.Changed) > 0 {
			why += " (" + strings.Join(r.Changed, "; ") + ")"
			how = "once it is taken back, " + how + "; or give this plan up: muster reconcile abort " + o.Args() + " --yes"
		}
		return fmt.Errorf("%s at step %s: %s; %s", r.Ended, r.Step, why, how)
	}
	return nil
}

// excerpt shortens the evidence of a stopped action: to its beginning, which says what
// was judged, and its end, the last lines of a machine's console. The journal has all of
// it.
func excerpt(evidence string) []string {
	const begin, end = 4, 16
	lines := strings.Split(strings.TrimRight(evidence, "\n"), "\n")
	switch more := len(lines) - begin - end; {
	case evidence == "":
		return nil
	case more > 1:
		return slices.Concat(lines[:begin], []string{fmt.Sprintf("  ... %d lines; muster report has them all", more)}, lines[len(lines)-end:])
	}
	return lines
}

// previewLimit bounds a dry run.
const previewLimit = 10 * time.Minute

// preview shows what a run would do.
func (o *reconcileOptions) preview(ctx context.Context, s console.Streams, cfg reconcile.Config) error {
	ctx, cancel := context.WithTimeout(ctx, previewLimit)
	defer cancel()
	p, err := reconcile.DryRun(ctx, cfg, o.shadow)
	if err != nil {
		return err
	}
	if o.output == "json" {
		if err := console.WriteJSON(s.Out, p); err != nil {
			return err
		}
	} else {
		printPreview(s.Out, p)
	}
	switch {
	case p.Refused != "":
		return console.Refusal{Err: errors.New(p.Refused)}
	case p.Over != "" || o.output == "json":
		return nil
	case o.shadow:
		fmt.Fprintln(s.Out, "\ngates were asked; nothing was changed")
	default:
		fmt.Fprintln(s.Out)
		for _, what := range p.Lacks {
			fmt.Fprintf(s.Out, "missing   %s\n", what)
		}
		if o.missing != nil {
			fmt.Fprintf(s.Out, "missing   %v\n", o.missing)
		}
		fmt.Fprintln(s.Out, "nothing was changed; add --yes")
	}
	return nil
}

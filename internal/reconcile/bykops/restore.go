package bykops

import (
	"errors"
	"fmt"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// unchanged explains why an instance of another template version stays.
func unchanged(g cloud.Group, i cloud.Instance) string {
	return fmt.Sprintf("%s stays: its template version %s holds what version %s does", i.ID, i.Version, g.Template.Version)
}

// replaceReason explains on a rollback, where some nodes may never have been touched,
// why an instance is replaced.
func (p rollout) replaceReason(g cloud.Group, i cloud.Instance) string {
	switch {
	case !p.back || g.Template.Version == "":
		return ""
	case i.Generation == cloud.GenerationOld && i.Version != "":
		return fmt.Sprintf(", whose template version %s differs from version %s", i.Version, g.Template.Version)
	}
	return ", since what it was made from cannot be compared any more"
}

// restored judges whether a role's templates are the original ones, and says which
// instances will be replaced and which stay.
func (e *Executor) restored(w world, role cluster.Role) (report.Verdict, string) {
	v, why := e.inAllStates(w, func(s plan.State) bool { return e.Problem.Restored(s, role) })
	if v != report.Pass {
		return v, why + " they are"
	}
	var says []string
	for _, g := range w.groups(role) {
		for _, i := range g.Living() {
			switch {
			case isOutdated(i):
				says = append(says, "to be replaced: "+i.ID+rollout{back: true}.replaceReason(g, i))
			case i.Version != "" && i.Version != g.Template.Version:
				says = append(says, unchanged(g, i))
			}
		}
	}
	if len(says) == 0 {
		return report.Pass, "every node is of its group's template version"
	}
	return report.Pass, strings.Join(says, "; ")
}

// requireRestored refuses to replace nodes while a role's templates are not the
// original ones: the new nodes would be of the kind to be replaced. The actions
// returned with the error are those to be expected.
func (e *Executor) requireRestored(w world, role cluster.Role) (expected []reconcile.Action, err error) {
	if v, _ := e.restored(w, role); v == report.Pass {
		return nil, nil
	}
	var stay []string
	for _, g := range w.groups(role) {
		for _, i := range g.Living() {
			if !isOutdated(i) {
				expected = append(expected, reconcile.Action{Group: g.Name, Node: i.ID, What: fmt.Sprintf("replace %s of %s, made from template version %s", i.ID, g.Name, i.Version)})
				continue
			}
			stay = append(stay, fmt.Sprintf("%s (version %s)", i.ID, i.Version))
		}
	}
	if len(stay) == 0 {
		return expected, errors.New("the templates of before are not back yet")
	}
	return expected, fmt.Errorf("the templates of before are not back yet; of %s those stay whose template version holds the same as they then do", strings.Join(stay, ", "))
}

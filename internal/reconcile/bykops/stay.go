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

// alike says of an instance that is not of the template's version why it stays.
func alike(g cloud.Group, i cloud.Instance) string {
	return fmt.Sprintf("%s stays: its template version %s holds what version %s does", i.ID, i.Version, g.Template.Version)
}

// because says on a way back, where nodes may never have been touched, why one is
// replaced all the same.
func (p pace) because(g cloud.Group, i cloud.Instance) string {
	switch {
	case !p.back || g.Template.Version == "":
		return ""
	case i.Generation == cloud.GenerationOld && i.Version != "":
		return fmt.Sprintf(", whose template version %s differs from version %s", i.Version, g.Template.Version)
	}
	return ", since what it was made from cannot be compared any more"
}

// restored judges whether the templates of a role are those of before, and says
// who is replaced for it and who stays.
func (e *Executor) restored(w world, role cluster.Role) (report.Verdict, string) {
	v, why := e.states(w, func(s plan.State) bool { return e.Problem.Restored(s, role) })
	if v != report.Pass {
		return v, why + " they are"
	}
	var says []string
	for _, g := range w.groups(role) {
		for _, i := range g.Living() {
			switch {
			case isOld(i):
				says = append(says, "to be replaced: "+i.ID+pace{back: true}.because(g, i))
			case i.Version != "" && i.Version != g.Template.Version:
				says = append(says, alike(g, i))
			}
		}
	}
	if len(says) == 0 {
		return report.Pass, "every node is of its group's template version"
	}
	return report.Pass, strings.Join(says, "; ")
}

// notRestored refuses to replace nodes while the templates of a role are not those
// of before: they would be born anew as what is to go. What is expected to be
// replaced comes with the error.
func (e *Executor) notRestored(w world, role cluster.Role) (expected []reconcile.Action, err error) {
	if v, _ := e.restored(w, role); v == report.Pass {
		return nil, nil
	}
	var stay []string
	for _, g := range w.groups(role) {
		for _, i := range g.Living() {
			if !isOld(i) {
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

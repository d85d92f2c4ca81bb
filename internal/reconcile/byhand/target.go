package byhand

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
)

// Target is what kops update cluster --target=terraform generated, as far as it
// decides whether nodes join: what each group's instances would boot with.
type Target struct {
	boots  map[string]*cloud.BootConfig // by group
	unread []string                     // user-data that could not be read, and why
}

// maxTarget bounds a file that is read, in bytes: kubernetes.tf of a large
// cluster has some hundred thousand.
const maxTarget = 16 << 20

// ReadTarget reads a directory that kOps generated: kubernetes.tf or
// kubernetes.tf.json, and the user-data in data/. Whose user-data a file is says
// the boot configuration in it; that it is used, kubernetes.tf has to say, since
// files of an earlier run stay where they are.
func ReadTarget(dir string) (Target, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Target{}, fmt.Errorf("no generated Terraform: %w", err)
	}
	defer root.Close()
	resources, err := readFirst(root, "kubernetes.tf", "kubernetes.tf.json")
	if err != nil {
		return Target{}, fmt.Errorf("no generated Terraform: %w; want what kops update cluster --target=terraform --out=%s writes", err, dir)
	}
	files, err := fs.ReadDir(root.FS(), "data")
	if err != nil {
		return Target{}, fmt.Errorf("read what instances boot with: %w", err)
	}
	t := Target{boots: map[string]*cloud.BootConfig{}}
	for _, f := range files {
		name := "data/" + f.Name()
		if !isUserData(f.Name()) || !strings.Contains(resources, name+`"`) {
			continue
		}
		data, err := read(root, name)
		if err != nil {
			return Target{}, fmt.Errorf("read what instances boot with: %w", err)
		}
		boot, err := bootconfig.Parse(data)
		if err != nil {
			t.unread = append(t.unread, fmt.Sprintf("%s: %v", name, err)) // a bastion's has nothing of kOps
			continue
		}
		if t.boots[boot.Group] != nil {
			return Target{}, fmt.Errorf("%s: a second user-data of group %s", filepath.Join(dir, name), boot.Group)
		}
		t.boots[boot.Group] = boot
	}
	return t, nil
}

// isUserData tells user-data from the other files by the name of the argument
// that it is for, which kOps ends the file's name in.
func isUserData(name string) bool {
	return slices.ContainsFunc([]string{"user_data", "startup-script", "custom_data"}, func(end string) bool { return strings.HasSuffix(name, end) })
}

func readFirst(root *os.Root, names ...string) (string, error) {
	var first error
	for _, name := range names {
		data, err := read(root, name)
		if err == nil {
			return string(data), nil
		}
		if first == nil || !errors.Is(err, fs.ErrNotExist) {
			first = err
		}
	}
	return "", first
}

func read(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxTarget+1))
	if err == nil && len(data) > maxTarget {
		err = fmt.Errorf("%s has more than %d bytes", name, maxTarget)
	}
	return data, err
}

// check says why what was generated must not be applied, all reasons in one line;
// nil if every worker's group boots with addresses.
func (t Target) check(p plan.Problem) error {
	var faults []string
	for _, g := range p.Groups {
		if g.Role != cluster.RoleNode {
			continue
		}
		b := t.boots[g.Name]
		switch {
		case b == nil:
			faults = append(faults, strings.Join(append([]string{"no user-data was generated for group " + g.Name}, t.unread...), ", "))
		case b.Cluster != p.Cluster:
			faults = append(faults, fmt.Sprintf("group %s is one of cluster %s", g.Name, b.Cluster))
		case len(b.APIServerIPs) == 0 && bootconfig.Path(b) == cloud.BootName:
			faults = append(faults, fmt.Sprintf("apiServerIPs of %s is empty: its workers would ask %s, which nothing resolves; once the load balancer is there, run kops update cluster --target=terraform again", g.Name, strings.Join(b.Servers, ", ")))
		case bootconfig.Path(b) != cloud.BootAddresses || len(b.APIServerIPs) == 0:
			faults = append(faults, fmt.Sprintf("workers of %s would boot by %s, with %d addresses of the API; is the spec the one that the plan asks for?", g.Name, bootconfig.Path(b), len(b.APIServerIPs)))
		}
	}
	if len(faults) > 0 {
		return errors.New(strings.Join(faults, "; "))
	}
	return nil
}

// names are the workers' groups.
func (t Target) names(p plan.Problem) (names []string) {
	for _, g := range p.Groups {
		if g.Role == cluster.RoleNode {
			names = append(names, g.Name)
		}
	}
	return names
}

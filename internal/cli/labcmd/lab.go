package labcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/lab/netns"
	"github.com/muster-dev/muster/internal/labctl"
	"github.com/muster-dev/muster/internal/rehearse"
)

// NewLab returns muster lab.
func NewLab(s console.Streams) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "A local cluster of real processes: up, status, fault, down",
		Args:  console.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&dir, "dir", labctl.DefaultDir(), "the lab's `directory`")
	cmd.AddCommand(newLabUp(s, &dir), newLabStatus(s, &dir), newLabFault(s, &dir), newLabDown(s, &dir))
	return cmd
}

type labUpOptions struct {
	file     string
	topology string
	overlay  string
	netns    bool
	api      apiServerOptions
}

func newLabUp(s console.Streams, dir *string) *cobra.Command {
	var o labUpOptions
	cmd := &cobra.Command{
		Use:     "up -f MANIFEST",
		Short:   "Start a lab and leave it running",
		Example: "  muster lab up -f examples/atlas.k8s.local.yaml\n  muster lab status\n  muster lab down",
		Args:    console.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return labUp(cmd.Context(), s, *dir, o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.file, "filename", "f", "", "kOps `manifest`")
	f.StringVar(&o.topology, "topology", "", "gossip or none (default: what the manifest says)")
	f.StringVar(&o.overlay, "overlay", "", overlayUsage)
	console.Choices(cmd, "topology", string(cluster.Gossip), string(cluster.None))
	console.Choices(cmd, "overlay", overlays...)
	f.BoolVar(&o.netns, "netns", false, "give each node a network namespace and its own /etc/hosts (Linux, root)")
	o.api.addTo(f)
	return cmd
}

// upTimeout bounds how long `lab up` waits for the lab, whose own limit is
// shorter.
const upTimeout = 5 * time.Minute

// check refuses flags that make no sense.
func (o labUpOptions) check() error {
	switch o.file {
	case "":
		return console.Usagef("no manifest; give one with -f (try examples/atlas.k8s.local.yaml)")
	case console.Stdin:
		return console.Usagef("-f -: the lab reads its manifest once more in the background; write it to a file")
	}
	if o.topology != "" && o.topology != string(cluster.Gossip) && o.topology != string(cluster.None) {
		return console.Usagef("--topology %q; want gossip or none", o.topology)
	}
	if o.overlay != "" {
		if _, err := lab.ParseOverlay(o.overlay); err != nil {
			return console.Usagef("--%w", err)
		}
	}
	return nil
}

func labUp(ctx context.Context, s console.Streams, dir string, o labUpOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	m, err := s.ReadManifest(ctx, o.file)
	if err != nil {
		return err
	}
	if o.overlay != "" && startOf(m.Spec, o.topology) == cluster.None {
		return console.Usagef("--overlay %s: a lab that starts in none does not gossip; add --topology gossip", o.overlay)
	}
	kubernetes, err := o.api.find()
	if err != nil {
		return err
	}
	o.netns = o.netns || kubernetes.Real()
	if o.netns {
		if err := netns.Check(); err != nil {
			return console.Usagef("--netns: %w", err)
		}
	}
	if _, err := (labctl.Client{Dir: dir}).Status(ctx); err == nil {
		return console.Usagef("a lab is running in %s already; %s ends it", dir, labCommand(dir, "down"))
	}
	programs, err := lab.FindPrograms()
	if err != nil {
		return err
	}
	file, err := filepath.Abs(o.file)
	if err != nil {
		return err
	}
	base, err := newLabDir(dir)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(base, labLog))
	if err != nil {
		return err
	}
	defer log.Close()
	// Not bound to ctx: the supervisor is to outlive this command. It ends by
	// `muster lab down`, by SIGTERM, or by itself if the lab does not come up.
	supervisor := exec.Command(programs.Muster, SuperviseVerb, base, file, o.topology, o.overlay, fmt.Sprint(o.netns), kubernetes.APIServer, kubernetes.Etcd)
	supervisor.Stdout, supervisor.Stderr = log, log
	detach(supervisor)
	if err := supervisor.Start(); err != nil {
		return err
	}
	if err := awaitLab(ctx, base, supervisor); err != nil {
		return fmt.Errorf("%w: %s; see %s", err, lastLine(log.Name()), log.Name())
	}
	if err := labStatus(ctx, s, base, ""); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "\n%s", console.Next(labCommand(base, "status"), labCommand(base, "fault KIND"), labCommand(base, "down")))
	return err
}

// labCommand returns a command on the lab in dir as it has to be typed.
func labCommand(dir, verb string) string {
	if dir == labctl.DefaultDir() {
		return "muster lab " + verb
	}
	return "muster lab " + verb + " --dir " + dir
}

// newLabDir makes the lab's directory, and refuses one that holds anything but
// the remains of an earlier lab.
func newLabDir(dir string) (string, error) {
	base, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := checkPath(base); err != nil {
		return "", err
	}
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", console.Usagef("--dir: %w", err)
	}
	entries, err := os.ReadDir(base)
	if err != nil {
		return "", console.Usagef("--dir: %w", err)
	}
	remains := []string{filepath.Base(labctl.SocketPath(base)), "lab", labLog, filepath.Base(labctl.StoreDir(base))}
	for _, e := range entries {
		if !slices.Contains(remains, e.Name()) {
			return "", console.Usagef("--dir %s is not empty, and %s in it is nothing of a lab's; name a directory that is", base, e.Name())
		}
	}
	if name := labctl.StoredCluster(base); name != "" {
		return "", console.Refusef("--dir %[1]s holds the journal of a migration of %[2]s on an earlier lab, which a new one would delete; take another --dir, or keep its report (muster report cluster --dir %[1]s -o FILE.html) and remove the directory: rm -r %[1]s", dir, name)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(base, e.Name())); err != nil {
			return "", err
		}
	}
	return base, nil
}

// maxPath is the longest path of a lab's directory, in bytes: the system limits those of
// Unix sockets, which are below it, to about a hundred.
const maxPath = 50

// checkPath refuses directories whose path is too long for a lab.
func checkPath(dir string) error {
	if len(dir) > maxPath {
		return console.Usagef("--dir %s: %d characters; a lab keeps Unix sockets in it, which need a path of at most %d", dir, len(dir), maxPath)
	}
	return nil
}

// labLog is the log of the supervisor, in the lab's directory.
const labLog = "lab.log"

// lastLine returns the last line of a log, which usually says why the program ended.
func lastLine(file string) string {
	data, _ := os.ReadFile(file) // without it there is nothing to add
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return lines[len(lines)-1]
}

// awaitLab waits until the lab answers or its supervisor gives up.
func awaitLab(ctx context.Context, dir string, supervisor *exec.Cmd) error {
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	gone := make(chan error, 1)
	go func() { gone <- supervisor.Wait() }() // ends with the supervisor, or with this program
	for {
		if _, err := (labctl.Client{Dir: dir}).Status(ctx); err == nil {
			return nil
		}
		select {
		case err := <-gone:
			return fmt.Errorf("the lab did not come up: %w", err)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("no lab after %v", upTimeout), supervisor.Process.Kill())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func newLabStatus(s console.Streams, dir *string) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what runs on each node of the lab, and which paths work",
		Args:  console.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return labStatus(cmd.Context(), s, *dir, output) },
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json")
	return cmd
}

func labStatus(ctx context.Context, s console.Streams, dir, output string) error {
	if output != "" && output != "json" {
		return console.Usagef("-o %q; want json", output)
	}
	st, err := labctl.Client{Dir: dir}.Status(ctx)
	if err != nil {
		return err
	}
	if output == "json" {
		return console.WriteJSON(s.Out, st)
	}
	fmt.Fprintf(s.Out, "%s   lab in %s   up %s\n\n", st.Cluster, st.Dir, time.Since(st.Since).Round(time.Second))
	tab := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tab, "node\trole\taddress\tpaths that work\tprograms (pid)")
	for _, n := range st.Nodes {
		var programs []string
		for p, process := range n.Programs {
			programs = append(programs, fmt.Sprintf("%s (%d)", p, process.PID))
		}
		slices.Sort(programs)
		var working []string
		for _, p := range n.Working {
			working = append(working, string(p))
		}
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\n", n.Name, n.Role, n.Addr, strings.Join(working, ", "), strings.Join(programs, ", "))
	}
	return tab.Flush()
}

func newLabFault(s console.Streams, dir *string) *cobra.Command {
	var node string
	cmd := &cobra.Command{
		Use:   "fault KIND",
		Short: "Disturb the lab",
		Long:  "Fault does to the lab what the world may do to a cluster, and mends it after a while.\n" + faultHelp("KIND is one of:"),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return console.CommandLinef(cmd, "want one kind of fault")
			}
			return rehearse.CheckFault(args[0])
		},
		ValidArgs: faultNames(),
		RunE: func(cmd *cobra.Command, args []string) error {
			what, err := labctl.Client{Dir: *dir}.Fault(cmd.Context(), args[0], node)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(s.Out, "%s\nnext: %s\n", what, labCommand(*dir, "status"))
			return err
		},
	}
	cmd.Flags().StringVar(&node, "node", "", "`node` to hit (default: the first that fits)")
	return cmd
}

func newLabDown(s console.Streams, dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Stop the lab; nothing of it keeps running",
		Args:  console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := (labctl.Client{Dir: *dir}).Down(cmd.Context()); err != nil {
				return err
			}
			_, err := fmt.Fprintf(s.Out, "the lab is down; its logs are in %s\n", *dir)
			return err
		},
	}
}

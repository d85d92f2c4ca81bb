package bykops

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile/child"
)

// Kops is a kops binary, of a release that was looked at.
type Kops struct {
	// Path is the binary's.
	Path string
	// Version is what it says of itself, such as 1.36.2.
	Version string
	// State is the state store's URL, given to it as KOPS_STATE_STORE. Required.
	State string
	// Start runs it with arguments until it ends, its output to out. Required;
	// [FindKops] starts the binary at Path as package child does: on Linux it does
	// not outlive this process, and the cluster's lock does, for a while.
	Start func(ctx context.Context, args []string, out io.Writer) error
}

// FindKops finds the binary as kOps's own users do: the path that was given, then
// $KOPS, then PATH; and asks it its version, which must be of the release that
// plans are for. Errors say what to do.
func FindKops(ctx context.Context, given, state string) (*Kops, error) {
	release := cluster.Deadline().Bridge
	path, from := given, "--kops"
	if path == "" {
		path, from = os.Getenv("KOPS"), "$KOPS"
	}
	if path == "" {
		path, from = "kops", "PATH"
	}
	found, err := exec.LookPath(path)
	switch {
	case err != nil && from == "PATH":
		return nil, fmt.Errorf("no kops in PATH; install kOps %s, or name the binary with --kops or $KOPS", release)
	case err != nil:
		return nil, fmt.Errorf("no kops at %s (%s); install kOps %s, or name the binary with --kops or $KOPS", path, from, release)
	}
	k, is, err := askKops(ctx, found, state)
	if err == nil && is != release {
		return nil, fmt.Errorf("%s is kOps %s, and the plan is for %s; name that one with --kops", found, k.Version, release)
	}
	return k, err
}

// FindBefore asks the binary that a way back is to restore with for its version.
// Only one that makes again what there was will do: another may take from live
// workers what they need before anybody sees that its templates do not lead back.
func FindBefore(ctx context.Context, given, state string, p plan.Problem, spec *cluster.Cluster, version string) (*Kops, error) {
	will, err := restorers(p, spec, version)
	if err != nil {
		return nil, err
	}
	found, err := exec.LookPath(given)
	if err != nil {
		return nil, fmt.Errorf("no kops at %s; install kOps %s", given, oneOf(will))
	}
	k, is, err := askKops(ctx, found, state)
	if err == nil && !slices.Contains(will, is) {
		return nil, fmt.Errorf("%s is kOps %s, and what is to be restored was made by %s; name that one", found, k.Version, oneOf(will))
	}
	return k, err
}

// restorers are the releases whose kOps makes of a spec what a way back restores:
// the one that had updated the cluster when the plan was made, or, where gossip is
// what the plan wants, those that make gossip of it. Their hybrid narrows the
// workers' role before anything else.
func restorers(p plan.Problem, spec *cluster.Cluster, version string) ([]cluster.Release, error) {
	if p.To != cluster.Gossip {
		r, err := cluster.ParseRelease(cmp.Or(version, cluster.Release135.String()))
		return []cluster.Release{r}, err
	}
	gossiping := *spec
	gossiping.DNSType = cluster.DNSPrivate
	will := slices.DeleteFunc(cluster.Releases(), func(r cluster.Release) bool {
		return r > cluster.Deadline().Bridge || gossiping.Topology(r) != cluster.Gossip
	})
	if len(will) == 0 {
		return nil, fmt.Errorf("no release of kOps makes gossip of the spec of %s", spec.Name)
	}
	return will, nil
}

func oneOf(all []cluster.Release) string {
	names := make([]string, len(all))
	for i, r := range all {
		names[i] = r.String()
	}
	return strings.Join(names, " or ")
}

// askKops asks a binary for its version.
func askKops(ctx context.Context, found, state string) (*Kops, cluster.Release, error) {
	k := &Kops{Path: found, State: state}
	k.Start = func(ctx context.Context, args []string, out io.Writer) error { return k.process(ctx, args, out, out) }
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var out bytes.Buffer
	if err := k.process(ctx, []string{"version", "--short"}, &out, nil); err != nil {
		return nil, 0, fmt.Errorf("%s version: %w; is it kops?", found, err)
	}
	k.Version = strings.TrimPrefix(strings.TrimSpace(out.String()), "v")
	is, err := cluster.ParseRelease(k.Version)
	if err != nil {
		return nil, 0, fmt.Errorf("%s version says %.40q; is it kops?", found, k.Version)
	}
	return k, is, nil
}

// parseCommand turns a line of a plan into arguments. A plan's commands have no
// quotes; one with anything that a shell would read is none of ours.
func parseCommand(line string) ([]string, error) {
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "kops" {
		return nil, fmt.Errorf("%q is no command for kops", line)
	}
	if strings.ContainsAny(line, "\"'`$;|&<>\\*?(){}~") {
		return nil, fmt.Errorf("%q: a command of a plan has no quotes and nothing for a shell", line)
	}
	return words[1:], nil
}

// Run runs kops with the given arguments and says its output, line by line,
// without secrets. An error ends with the last lines.
func (k *Kops) Run(ctx context.Context, args []string, say func(string)) error {
	say(k.Path + " " + strings.Join(args, " ") + "   (kOps " + k.Version + ")")
	out := &lines{say: say}
	err := k.Start(ctx, args, out)
	out.flush()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	tail := strings.Join(out.last, " / ")
	if tail == "" {
		return fmt.Errorf("kops %s: %w", args[0], err)
	}
	return fmt.Errorf("kops %s: %w; it said: %s", args[0], err, tail)
}

// grace is how long kops may take to end when it is asked to: an update that is cut
// off leaves tasks half done, which the next one does.
const grace = 20 * time.Second

func (k *Kops) process(ctx context.Context, args []string, out, errs io.Writer) error {
	cmd := exec.Command(k.Path, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "KOPS_STATE_STORE=") })
	cmd.Env = append(cmd.Env, "KOPS_STATE_STORE="+k.State)
	cmd.Stdout, cmd.Stderr = out, errs
	return child.Run(ctx, cmd, grace)
}

// Bounds of what is kept of kops's output.
const (
	maxLine  = 400 // bytes of a line
	maxLines = 400 // lines said; what follows is counted
	keepLast = 5   // lines in an error
)

// lines says what is written to it, line by line. It is written to from one
// goroutine, or two when standard output and error are one writer, which exec
// then makes one.
type lines struct {
	say func(string)

	mu   sync.Mutex // guards what follows
	open []byte
	said int
	pem  bool // inside a PEM block
	last []string
}

var _ io.Writer = (*lines)(nil)

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		l.line(append(l.open, p[:i]...))
		l.open, p = l.open[:0], p[i+1:]
	}
	if len(l.open) < maxLine*2 {
		l.open = append(l.open, p...)
	}
	return n, nil
}

func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) > 0 {
		l.line(l.open)
		l.open = nil
	}
	if l.said > maxLines {
		l.say(fmt.Sprintf("... and %d more lines of kops", l.said-maxLines))
	}
}

func (l *lines) line(raw []byte) {
	text := strings.ToValidUTF8(strings.TrimSpace(string(raw)), "")
	switch {
	case strings.Contains(text, "-----BEGIN "):
		l.pem = !strings.Contains(text, "-----END ")
		text = "(a PEM block)"
	case l.pem:
		l.pem = !strings.Contains(text, "-----END ")
		return
	case text == "":
		return
	}
	if text = redact(text); len(text) > maxLine {
		text = strings.ToValidUTF8(text[:maxLine], "") + "..."
	}
	if l.last = append(l.last, text); len(l.last) > keepLast {
		l.last = l.last[1:]
	}
	if l.said++; l.said <= maxLines {
		l.say(text)
	}
}

// secrets are what kOps prints of what a cluster is made of when it shows
// differences: keys of clouds, tokens, passwords.
var secrets = []*regexp.Regexp{
	regexp.MustCompile(`(?i)([a-z0-9_.-]*(?:secret|token|password|passwd|private[_-]?key|access[_-]?key)[a-z0-9_.-]*["']?\s*[:=]\s*)["']?[^\s"',;]+`),
	regexp.MustCompile(`()\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b`),
	regexp.MustCompile(`(://)[^\s/@]+:[^\s/@]+@`),
}

func redact(text string) string {
	for _, re := range secrets {
		text = re.ReplaceAllString(text, "${1}(secret)")
	}
	return text
}

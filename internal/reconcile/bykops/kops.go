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

// Kops is a kops binary of a known version.
type Kops struct {
	// Path is the path of the binary.
	Path string
	// Version is the version that it reports, such as 1.36.2.
	Version string
	// State is the state store's URL, passed as KOPS_STATE_STORE. Required.
	State string
	// Start runs it with arguments until it exits, with its output to out. Required.
	// [FindKops] sets it to run the binary at Path by package child: on Linux it does
	// not outlive this process, whereas the cluster's lock does for its term.
	Start func(ctx context.Context, args []string, out io.Writer) error
}

// FindKops finds the binary: the given path, then $KOPS, then kops in PATH. Its
// version must be of the release that plans are made for. Errors say what to do.
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
	k, is, err := openKops(ctx, found, state)
	if err == nil && is != release {
		return nil, fmt.Errorf("%s is kOps %s, and the plan is for %s; name that one with --kops", found, k.Version, release)
	}
	return k, err
}

// FindBefore finds the binary that a rollback restores with. Its version must be one
// that renders what there was: another may remove what live workers need before its
// templates turn out to be wrong.
func FindBefore(ctx context.Context, given, state string, p plan.Problem, spec *cluster.Cluster, version string) (*Kops, error) {
	will, err := restoreReleases(p, spec, version)
	if err != nil {
		return nil, err
	}
	found, err := exec.LookPath(given)
	if err != nil {
		return nil, fmt.Errorf("no kops at %s; install kOps %s", given, joinOr(will))
	}
	k, is, err := openKops(ctx, found, state)
	if err == nil && !slices.Contains(will, is) {
		return nil, fmt.Errorf("%s is kOps %s, and what is to be restored was made by %s; name that one", found, k.Version, joinOr(will))
	}
	return k, err
}

// restoreReleases returns the releases whose kOps renders what a rollback restores:
// the one that had updated the cluster when the plan was made or, if the plan leads to
// gossip, those that render gossip from the spec. Releases that render hybrid from it
// would narrow the workers' role first of all.
func restoreReleases(p plan.Problem, spec *cluster.Cluster, version string) ([]cluster.Release, error) {
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

func joinOr(all []cluster.Release) string {
	names := make([]string, len(all))
	for i, r := range all {
		names[i] = r.String()
	}
	return strings.Join(names, " or ")
}

// openKops runs a binary to get its version.
func openKops(ctx context.Context, found, state string) (*Kops, cluster.Release, error) {
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

// parseCommand splits a plan's kops command into arguments. A plan's commands have no
// quotes, so one with any shell syntax was not written by Muster.
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

// Run runs kops and passes its output to say line by line, with secrets redacted. An
// error contains the last lines.
func (k *Kops) Run(ctx context.Context, args []string, say func(string)) error {
	say(k.Path + " " + strings.Join(args, " ") + "   (kOps " + k.Version + ")")
	out := &lineWriter{say: say}
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

// interruptGrace is how long kops may take to exit after an interrupt. An update that
// is killed leaves tasks undone, which the next one completes.
const interruptGrace = 20 * time.Second

func (k *Kops) process(ctx context.Context, args []string, out, errs io.Writer) error {
	cmd := exec.Command(k.Path, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "KOPS_STATE_STORE=") })
	cmd.Env = append(cmd.Env, "KOPS_STATE_STORE="+k.State)
	cmd.Stdout, cmd.Stderr = out, errs
	return child.Run(ctx, cmd, interruptGrace)
}

// Bounds of kops's output.
const (
	maxLine  = 400 // bytes of a line
	maxLines = 400 // lines passed on; the rest is only counted
	keepLast = 5   // lines in an error
)

// lineWriter passes what is written to it to say, line by line, with secrets redacted.
// It is safe for concurrent use.
type lineWriter struct {
	say func(string)

	mu      sync.Mutex // guards what follows
	partial []byte
	count   int
	pem     bool // inside a PEM block
	last    []string
}

var _ io.Writer = (*lineWriter)(nil)

func (l *lineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		l.line(append(l.partial, p[:i]...))
		l.partial, p = l.partial[:0], p[i+1:]
	}
	if len(l.partial) < maxLine*2 {
		l.partial = append(l.partial, p...)
	}
	return n, nil
}

func (l *lineWriter) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.partial) > 0 {
		l.line(l.partial)
		l.partial = nil
	}
	if l.count > maxLines {
		l.say(fmt.Sprintf("... and %d more lines of kops", l.count-maxLines))
	}
}

func (l *lineWriter) line(raw []byte) {
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
	if l.count++; l.count <= maxLines {
		l.say(text)
	}
}

// secrets match what kOps may print when it shows differences: cloud keys, tokens,
// passwords.
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

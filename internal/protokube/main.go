package protokube

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// The exit codes of this mode.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Main runs a program in this mode and returns its exit code. It stops on SIGTERM
// and SIGINT.
func Main(name string, open OpenFunc, clouds Clouds, args []string, stdout, stderr io.Writer) int {
	fail := func(code int, err error) int {
		fmt.Fprintf(stderr, "%s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", "; "))
		return code
	}
	// Neither a closed terminal nor a request to reload may cost the node its path to the API.
	signal.Ignore(syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	cfg, err := parseArgs(ctx, args, clouds)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(stdout, usage, name)
		return exitOK
	}
	if err != nil {
		return fail(exitCode(err), fmt.Errorf("%w; see %s %s --help", err, name, Verb))
	}
	level := slog.LevelInfo
	if cfg.Verbosity >= 6 {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	d, err := newDaemon(cfg, open, func(state string) {
		// Without systemd this does nothing.
		_, _ = sd.SdNotify(false, state)
	}, log)
	if err != nil {
		return fail(exitUsage, err)
	}
	logWarnings(cfg, log)
	switch err := d.run(ctx); {
	case errors.Is(err, syscall.EADDRINUSE):
		return fail(exitUsage, fmt.Errorf("%w; stop protokube, or choose another port", err))
	case err != nil:
		return fail(exitFailed, err)
	}
	return exitOK
}

// logWarnings logs the configuration, and what an operator should know about it, once.
func logWarnings(cfg Config, log *slog.Logger) {
	slices.Sort(cfg.secretFlags)
	for _, flag := range cfg.secretFlags {
		log.Warn("a secret on the command line can be read by everybody on the node", "flag", flag, "instead", flag+"-file")
	}
	if cfg.Primary.Protocol == Mesh && len(cfg.Primary.Secret) == 0 {
		log.Warn("the overlay has no secret: whoever reaches its port can set every address", "listen", cfg.Primary.Listen.String())
	}
	log.Info("in the place of protokube", "cluster", cfg.Cluster, "node", cfg.Node, "primary", cfg.Primary.Protocol,
		"secondary", cfg.Secondary.Protocol, "channel", legacy.Channel, "networks", fmt.Sprint(cfg.Networks), "names", strings.Join(cfg.Names, ","))
}

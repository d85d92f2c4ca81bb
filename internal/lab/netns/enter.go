package netns

import (
	"errors"
	"fmt"
	"strconv"
)

// The subcommands that [Config].Self must have. They are the first argument, and hidden, because they are not for
// people.
const (
	HoldVerb  = "netns-hold"
	EnterVerb = "netns-enter"
)

// EnterArgv returns the command line with which self runs argv in the network namespace of the holder pid, with the
// file hosts as its /etc/hosts.
func EnterArgv(self string, pid int, hosts string, argv []string) []string {
	return append([]string{self, EnterVerb, strconv.Itoa(pid), hosts, "--"}, argv...)
}

// EnterMain is the subcommand [EnterVerb]; args are those after it. It returns only on an error: see [Enter].
func EnterMain(args []string) error {
	pid, hosts, argv, err := parseEnter(args)
	if err != nil {
		return fmt.Errorf("%s: %w", EnterVerb, err)
	}
	if err := Enter(pid, hosts, argv); err != nil {
		return fmt.Errorf("%s: %w", EnterVerb, err)
	}
	return nil
}

// parseEnter parses the arguments that EnterArgv makes.
func parseEnter(args []string) (pid int, hosts string, argv []string, err error) {
	if len(args) < 4 || args[2] != "--" {
		return 0, "", nil, errors.New("usage: PID HOSTS-FILE -- PROGRAM [ARGUMENT...]")
	}
	pid, err = strconv.Atoi(args[0])
	if err != nil || pid <= 0 {
		return 0, "", nil, fmt.Errorf("%q is not a process number", args[0])
	}
	return pid, args[1], args[3:], nil
}

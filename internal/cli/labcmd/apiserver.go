package labcmd

import (
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/lab"
)

// apiServerOptions are the flags that say what serves the API in a lab.
type apiServerOptions struct {
	kind, program, etcd string
}

func (o *apiServerOptions) addTo(f *pflag.FlagSet) {
	f.StringVar(&o.kind, "apiserver", "built-in", "what serves the API: built-in, or real (kube-apiserver and etcd; implies --netns)")
	f.StringVar(&o.program, "kube-apiserver", "", "`path` of kube-apiserver (default: $KUBE_APISERVER, then PATH)")
	f.StringVar(&o.etcd, "etcd", "", "`path` of etcd (default: $ETCD, then PATH)")
}

// find returns the programs to run; none for the built-in server.
func (o apiServerOptions) find() (lab.Kubernetes, error) {
	switch o.kind {
	case "built-in":
		if o.program != "" || o.etcd != "" {
			return lab.Kubernetes{}, console.Usagef("--kube-apiserver and --etcd are for --apiserver real")
		}
		return lab.Kubernetes{}, nil
	case "real":
		return lab.FindKubernetes(o.program, o.etcd)
	}
	return lab.Kubernetes{}, console.Usagef("--apiserver %q; want built-in or real", o.kind)
}

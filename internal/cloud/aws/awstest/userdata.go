package awstest

import (
	"cmp"
	"fmt"
	"strings"
)

// UserData describes a boot script as kOps writes it.
type UserData struct {
	Cluster string
	State   string // path of the cluster's state store; empty: state/CLUSTER
	Release string // of kOps, such as 1.36.2
	Group   string
	Role    string // as kOps spells it
	// Addresses are those of the configuration server. With none, ByName uses its name; otherwise the state store is read.
	Addresses []string
	ByName    bool
	Hash      string   // NodeupConfigHash
	Exports   []string // lines of the script
}

// String returns the script.
func (u UserData) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("#!/bin/bash")
	line("NODEUP_URL_AMD64=https://artifacts.example.net/binaries/kops/%s/linux/amd64/nodeup", u.Release)
	for _, e := range u.Exports {
		line("export %s", e)
	}
	line("cat > conf/kube_env.yaml << '__EOF_KUBE_ENV'")
	if len(u.Addresses) > 0 {
		line("APIServerIPs:")
		for _, a := range u.Addresses {
			line("- %s", a)
		}
	}
	line("CloudProvider: aws\nClusterName: %s", u.Cluster)
	switch {
	case len(u.Addresses) > 0:
		line("ConfigServer:\n  CACertificates: |\n    -----BEGIN CERTIFICATE-----\n    bWFkZSB1cA==\n    -----END CERTIFICATE-----\n  servers:")
		for _, a := range u.Addresses {
			line("  - https://%s:3988/", a)
		}
		line("  tlsServerName: kops-controller.internal.%s", u.Cluster)
	case u.ByName:
		line("ConfigServer:\n  servers:\n  - https://kops-controller.internal.%s:3988/", u.Cluster)
	default:
		line("ConfigBase: s3://%s", cmp.Or(u.State, "state/"+u.Cluster))
	}
	line("InstanceGroupName: %s\nInstanceGroupRole: %s", u.Group, u.Role)
	if u.Hash != "" {
		line("NodeupConfigHash: %s", u.Hash)
	}
	line("\n__EOF_KUBE_ENV")
	return b.String()
}

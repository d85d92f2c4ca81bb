package migratecmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2/maybe"
	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/sshsig"
	"github.com/muster-dev/muster/internal/store"
)

// signedFor is the namespace of OpenSSH's signatures that reports are signed in, so that
// a signature for anything else is not one of a report.
const signedFor = "muster-report"

// NewReport returns muster report.
func NewReport(s console.Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report",
		Short: "What a migration did, as evidence; and whether a report is what was signed",
		Args:  console.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newReportCluster(s), newReportVerify(s))
	return cmd
}

type reportOptions struct {
	runFlags
	run     string
	output  string
	signKey string
}

func newReportCluster(s console.Streams) *cobra.Command {
	var o reportOptions
	cmd := &cobra.Command{
		Use:   "cluster NAME",
		Short: "Report what was planned and done on a cluster, when, by whom, and how available it was",
		Long: `cluster reads the plan and the journal of a cluster's migration from the state
store, checks the journal's chain, and makes one report of them: every step and
action, every gate with its evidence, how available the API was on each path from
each vantage point, what each role might do and may do now, nodes replaced, when
bridges were up, ways back. It only reads, and can be asked while the migration is
under way.

  muster report cluster atlas.k8s.local --state s3://kops-state
  muster report cluster atlas.k8s.local -o atlas.html --sign-key ~/.ssh/id_ed25519
  muster report cluster --dir /tmp/muster-lab                       a lab's

The HTML page is one file that fetches nothing. --sign-key writes FILE.sig beside
it, in OpenSSH's format: "muster report verify" checks it, and so does
ssh-keygen -Y verify -n ` + signedFor + `.

` + console.ExitCodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.resolve(cmd, args); err != nil {
				return err
			}
			return o.report(cmd.Context(), s)
		},
	}
	o.AddTo(cmd)
	f := cmd.Flags()
	f.StringVar(&o.run, "run", "", "`run` to report (default: the one under way, or the last)")
	f.StringVarP(&o.output, "output", "o", "text", "text, json, html, or a `file` that ends in .json or .html")
	f.StringVar(&o.signKey, "sign-key", "", "sign the file with the private key in `file`: Ed25519, ECDSA or RSA, OpenSSH's format or PEM")
	return cmd
}

// format reads -o: a format, or a file whose extension is that of one.
func (o *reportOptions) format() (format, file string, err error) {
	if slices.Contains([]string{"text", "json", "html"}, o.output) {
		return o.output, "", nil
	}
	if f := planFormats[filepath.Ext(o.output)]; f == "json" || f == "html" {
		return f, o.output, nil
	}
	return "", "", console.Usagef("-o %q; want text, json, html, or a file that ends in .json or .html", o.output)
}

func (o *reportOptions) report(ctx context.Context, s console.Streams) error {
	format, path, err := o.format()
	if err != nil {
		return err
	}
	var key ssh.Signer
	if o.signKey != "" {
		if path == "" {
			return console.Usagef("--sign-key signs a file; name one with -o, such as -o %s.html", o.Name)
		}
		if key, err = readSignKey(ctx, s, o.signKey, path); err != nil {
			return err
		}
	}
	m, err := o.migration(ctx, s)
	if err != nil {
		return err
	}
	data, err := renderReport(m, format)
	if err != nil {
		return err
	}
	if path == "" {
		_, err := s.Out.Write(data)
		return err
	}
	if err := maybe.WriteFile(path, data, 0o644); err != nil {
		return console.Usagef("write the report to %s: %w", path, err)
	}
	fmt.Fprintf(s.Err, "muster: wrote %s\n", path)
	if key == nil {
		return nil
	}
	sig, err := sshsig.Sign(key, signedFor, data)
	if err != nil {
		return err
	}
	if err := maybe.WriteFile(path+".sig", sig, 0o644); err != nil {
		return console.Usagef("write the signature to %s.sig: %w", path, err)
	}
	fmt.Fprintf(s.Err, "muster: wrote %s.sig, by %s\n", path, ssh.FingerprintSHA256(key.PublicKey()))
	return nil
}

// migration reads a run and makes its report.
func (o *reportOptions) migration(ctx context.Context, s console.Streams) (report.Migration, error) {
	st, err := o.Open(ctx, s)
	if err != nil {
		return report.Migration{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, statestore.Timeout)
	defer cancel()
	var r reconcile.Record
	if o.run != "" {
		r, err = reconcile.Read(ctx, st, o.Name, o.run)
	} else {
		r, err = reconcile.Current(ctx, st, o.Name)
	}
	switch {
	case errors.Is(err, reconcile.ErrNoRun), o.run != "" && errors.Is(err, store.ErrNotFound):
		return report.Migration{}, console.Usagef("%s has no such run to report in %s; muster reconcile cluster %s --plan FILE begins one", o.Name, o.State, o.Args())
	case err != nil:
		return report.Migration{}, err
	}
	return report.Migrate(r.Plan, r.Entries)
}

func renderReport(m report.Migration, format string) ([]byte, error) {
	switch format {
	case "html":
		return []byte(m.HTML()), nil
	case "text":
		return []byte(m.Text()), nil
	}
	var b bytes.Buffer
	err := console.WriteJSONUnescaped(&b, m)
	return b.Bytes(), err
}

// readSignKey reads the key to sign the file at path with.
func readSignKey(ctx context.Context, s console.Streams, file, path string) (ssh.Signer, error) {
	data, err := s.ReadFile(ctx, file)
	if err != nil {
		return nil, console.Usagef("--sign-key: %w", err)
	}
	key, err := sshsig.ReadKey(data)
	switch {
	case errors.Is(err, sshsig.ErrEncrypted):
		return nil, console.Usagef("--sign-key %s: %w; leave --sign-key out and sign with ssh-keygen -Y sign -f %s -n %s %s", file, err, file, signedFor, path)
	case err != nil:
		return nil, console.Usagef("--sign-key %s: %w", file, err)
	}
	return key, nil
}

func newReportVerify(s console.Streams) *cobra.Command {
	var key, signers, signature string
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Check that a report is, byte for byte, what somebody signed whom you trust",
		Long: `verify checks FILE against its signature, FILE.sig, and says whose it is. The keys
that you trust are one public key (--key: a line as ssh-keygen writes it, or PEM)
or an allowed-signers file as ssh-keygen and git use it (--allowed-signers).

  muster report verify atlas.html --key id_ed25519.pub

It exits 0 if the signature is good, 1 if it is not or its key is not trusted,
and 2 if file, signature or keys cannot be read.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return console.CommandLinef(cmd, "%s wants one file", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if (key == "") == (signers == "") {
				return console.Usagef("whom to trust? give --key FILE or --allowed-signers FILE")
			}
			return verifyReport(cmd.Context(), s, args[0], signature, key, signers)
		},
	}
	f := cmd.Flags()
	f.StringVar(&key, "key", "", "`file` with the public key that is trusted")
	f.StringVar(&signers, "allowed-signers", "", "`file` with all that are, as in ssh-keygen(1)")
	f.StringVar(&signature, "signature", "", "`file` with the signature (default: FILE.sig)")
	return cmd
}

func verifyReport(ctx context.Context, s console.Streams, file, signature, key, signers string) error {
	if signature == "" {
		signature = file + ".sig"
	}
	data, err := s.ReadFile(ctx, file)
	if err != nil {
		return console.Usagef("%w", err)
	}
	sig, err := s.ReadFile(ctx, signature)
	if err != nil {
		return console.Usagef("%w; a report that was not signed cannot be verified", err)
	}
	trusted, err := readTrusted(ctx, s, key, signers)
	if err != nil {
		return err
	}
	by, err := sshsig.Verify(signedFor, data, sig)
	switch {
	case errors.Is(err, sshsig.ErrUnreadable):
		return console.Usagef("%s: %w", signature, err)
	case err != nil:
		return fmt.Errorf("%s: %w", file, err)
	}
	who, ok := trusted(by)
	if !ok {
		return fmt.Errorf("%s: the signature is sound, but its key %s is not one that you trust for %s", file, ssh.FingerprintSHA256(by), signedFor)
	}
	fmt.Fprintf(s.Out, "good   %s   signed by %s   %s %s\n", file, who, by.Type(), ssh.FingerprintSHA256(by))
	return nil
}

// readTrusted returns a function that says whose a key is, if it is trusted.
func readTrusted(ctx context.Context, s console.Streams, key, signers string) (func(ssh.PublicKey) (who string, ok bool), error) {
	file := key + signers
	data, err := s.ReadFile(ctx, file)
	if err != nil {
		return nil, console.Usagef("%w", err)
	}
	if key != "" {
		want, err := sshsig.ReadPublicKey(data)
		if err != nil {
			return nil, console.Usagef("--key %s: %w", key, err)
		}
		return func(by ssh.PublicKey) (string, bool) { return key, sshsig.Same(by, want) }, nil
	}
	all, err := sshsig.ReadSigners(data)
	if err != nil {
		return nil, console.Usagef("--allowed-signers %s: %w", signers, err)
	}
	return func(by ssh.PublicKey) (string, bool) { return all.Who(by, signedFor, time.Now()) }, nil
}

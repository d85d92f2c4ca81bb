package enrol

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/flock"
)

// redeemer in the environment makes the test binary redeem one token, as one of
// several processes that race for it.
const redeemer = "ENROL_TEST_REDEEMER"

func TestMain(m *testing.M) {
	if name := os.Getenv(redeemer); name != "" {
		os.Exit(redeemOnce(name))
	}
	os.Exit(m.Run())
}

// redeemOnce reads "PATH TOKEN" from its input, waits until that is closed, and
// redeems for a node and key of its own.
func redeemOnce(name string) int {
	in, err := io.ReadAll(os.Stdin)
	if err != nil {
		return 3
	}
	path, token, _ := strings.Cut(string(in), " ")
	store := &TokenStore{Path: path}
	err = store.Redeem(token, name, sha256.Sum256([]byte(name)), time.Now())
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrTokenUsed):
		return 1
	}
	fmt.Fprintln(os.Stderr, err)
	return 2
}

func TestRedeem(t *testing.T) {
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	keyA, keyB := sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b"))
	type try struct {
		node  string
		key   [sha256.Size]byte
		after time.Duration
		want  error
	}
	tests := []struct {
		name  string
		bound string
		tries []try
	}{
		{"a token for any worker admits one", "", []try{{"n1", keyA, 0, nil}, {"n2", keyB, 1, ErrTokenUsed}}},
		{"the same node and key may ask again", "", []try{{"n1", keyA, 0, nil}, {"n1", keyA, time.Minute, nil}, {"n1", keyA, 59 * time.Minute, nil}}},
		{"another key of the same node may not", "", []try{{"n1", keyA, 0, nil}, {"n1", keyB, 1, ErrTokenUsed}}},
		{"the same key for another node may not", "", []try{{"n1", keyA, 0, nil}, {"n2", keyA, 1, ErrTokenUsed}}},
		{"the first stays admitted after another tried", "", []try{{"n1", keyA, 0, nil}, {"n2", keyB, 1, ErrTokenUsed}, {"n1", keyA, 2, nil}}},
		{"a bound token admits its node", "n1", []try{{"n1", keyA, 0, nil}}},
		{"a bound token refuses another and is not used up by that", "n1", []try{{"n2", keyB, 0, ErrTokenNode}, {"n1", keyA, 1, nil}}},
		{"an unused token expires", "", []try{{"n1", keyA, time.Hour, ErrTokenExpired}}},
		{"a used token expires for its node too", "", []try{{"n1", keyA, 0, nil}, {"n1", keyA, time.Hour, ErrTokenExpired}}},
		{"good up to the last moment", "", []try{{"n1", keyA, time.Hour - 1, nil}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			store := &TokenStore{Path: filepath.Join(t.TempDir(), "tokens.json")}
			token, err := store.Create(time.Hour, tt.bound, start)
			if err != nil {
				t.Fatal(err)
			}
			for i, try := range tt.tries {
				err := store.Redeem(token.Text(), try.node, try.key, start.Add(try.after))
				if !errors.Is(err, try.want) || (err == nil) != (try.want == nil) {
					t.Errorf("try %d by %s: got %v, want %v", i+1, try.node, err, try.want)
				}
			}
		})
	}
}

func TestAWrongSecretAndAnUnknownTokenLookAlike(t *testing.T) {
	store := &TokenStore{Path: filepath.Join(t.TempDir(), "tokens.json")}
	now := time.Now()
	token, err := store.Create(time.Hour, "n1", now)
	if err != nil {
		t.Fatal(err)
	}
	other, err := newToken()
	if err != nil {
		t.Fatal(err)
	}
	wrong := other
	wrong.ID = token.ID
	key := sha256.Sum256([]byte("k"))
	for name, text := range map[string]string{
		"wrong secret": wrong.Text(), "unknown": other.Text(), "malformed": "x", "empty": "",
	} {
		// For a node that it is not bound to, long expired: still only "unknown".
		err := store.Redeem(text, "n2", key, now.Add(2*time.Hour))
		if !errors.Is(err, ErrTokenUnknown) {
			t.Errorf("%s: got %v, want ErrTokenUnknown", name, err)
		}
	}
}

func TestTheStoreHoldsNoSecretAndIsPrivate(t *testing.T) {
	store := &TokenStore{Path: filepath.Join(t.TempDir(), "tokens.json")}
	token, err := store.Create(time.Hour, "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(store.Path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte(token.Text()[tokenIDLen+1:])) || bytes.Contains(data, fmt.Appendf(nil, "%x", token.secret)) {
		t.Errorf("the store holds the secret: %s", data)
	}
	info, err := os.Stat(store.Path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("mode %#o, want 0600", got)
	}
	// Who may write the file could add a token of his own.
	if err := os.Chmod(store.Path, 0o660); err != nil {
		t.Fatal(err)
	}
	if err := store.Redeem(token.Text(), "n1", [32]byte{}, time.Now()); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a store that others may write: got %v", err)
	}
}

func TestListAndRevoke(t *testing.T) {
	store := &TokenStore{Path: filepath.Join(t.TempDir(), "tokens.json")}
	if got, err := store.List(); err != nil || len(got) != 0 {
		t.Fatalf("a store that nobody has made: got %v, %v", got, err)
	}
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	first, err := store.Create(time.Hour, "", start)
	if err != nil {
		t.Fatal(err)
	}
	second, err := store.Create(time.Hour, "n2", start.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256([]byte("k"))
	if err := store.Redeem(first.Text(), "n1", key, start.Add(2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	want := []TokenInfo{
		{ID: first.ID, Created: start, Expires: start.Add(time.Hour), Used: start.Add(2 * time.Minute), UsedBy: "n1", KeyHash: fmt.Sprintf("%x", key)},
		{ID: second.ID, Node: "n2", Created: start.Add(time.Minute), Expires: start.Add(61 * time.Minute)},
	}
	got, err := store.List()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
	if err := store.Revoke(second.ID); err != nil {
		t.Fatal(err)
	}
	if err := store.Redeem(second.Text(), "n2", key, start.Add(2*time.Minute)); !errors.Is(err, ErrTokenUnknown) {
		t.Errorf("a revoked token: got %v, want ErrTokenUnknown", err)
	}
	if err := store.Revoke(second.ID); !errors.Is(err, ErrTokenUnknown) {
		t.Errorf("revoked twice: got %v, want ErrTokenUnknown", err)
	}
}

func TestExpiredTokensAreListedForADay(t *testing.T) {
	store := &TokenStore{Path: filepath.Join(t.TempDir(), "tokens.json")}
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	old, err := store.Create(time.Hour, "", start)
	if err != nil {
		t.Fatal(err)
	}
	listed := func(at time.Duration) bool {
		t.Helper()
		if _, err := store.Create(time.Hour, "", start.Add(at)); err != nil {
			t.Fatal(err)
		}
		infos, err := store.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range infos {
			if i.ID == old.ID {
				return true
			}
		}
		return false
	}
	if !listed(25 * time.Hour) {
		t.Error("gone within a day of its end")
	}
	if listed(25*time.Hour + 1) {
		t.Error("still there more than a day after its end")
	}
}

func TestCreateRefuses(t *testing.T) {
	store := &TokenStore{Path: filepath.Join(t.TempDir(), "tokens.json")}
	if _, err := store.Create(0, "", time.Now()); err == nil {
		t.Error("a token that expires at once was made")
	}
	if _, err := store.Create(time.Hour, "Not_A_Name", time.Now()); err == nil {
		t.Error("a token for an impossible node was made")
	}
	missing := &TokenStore{Path: filepath.Join(t.TempDir(), "none", "tokens.json")}
	if _, err := missing.Create(time.Hour, "", time.Now()); err == nil {
		t.Error("a token was made in a directory that does not exist")
	}
}

func TestAStoreThatCannotBeReadIsNeverReplaced(t *testing.T) {
	for name, content := range map[string]string{
		"cut short":       `{"version":1,"tokens":[{"id":`,
		"empty":           "",
		"a later version": `{"version":2,"tokens":[]}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := writeTestFile(t, filepath.Join(t.TempDir(), "tokens.json"), content, 0o600)
			store := &TokenStore{Path: path}
			if _, err := store.Create(time.Hour, "", time.Now()); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("create: got %v, want an error with the file", err)
			}
			if err := store.Redeem("abc234."+strings.Repeat("a", 32), "n", [32]byte{}, time.Now()); err == nil || errors.Is(err, ErrTokenUnknown) {
				t.Errorf("redeem: got %v, want a fault of the store", err)
			}
			if got, _ := os.ReadFile(path); string(got) != content {
				t.Errorf("contents became %q", got)
			}
		})
	}
}

func TestOfKeysThatRaceForATokenOneWins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	for round := range 10 {
		token, err := (&TokenStore{Path: path}).Create(time.Hour, "", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		results := make([]error, 8)
		for i := range results {
			wg.Go(func() {
				store := &TokenStore{Path: path} // as another process would have it
				node := fmt.Sprintf("n%d", i)
				results[i] = store.Redeem(token.Text(), node, sha256.Sum256([]byte(node)), time.Now())
			})
		}
		wg.Wait()
		won := 0
		for _, err := range results {
			if err == nil {
				won++
			} else if !errors.Is(err, ErrTokenUsed) {
				t.Errorf("round %d: %v", round, err)
			}
		}
		if won != 1 {
			t.Errorf("round %d: %d keys won, want 1", round, won)
		}
	}
}

func TestOfProcessesThatRaceForATokenOneWins(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tokens.json")
	token, err := (&TokenStore{Path: path}).Create(time.Hour, "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	const n = 6
	var gates []io.Closer
	var procs []*exec.Cmd
	for i := range n {
		cmd := exec.CommandContext(t.Context(), exe)
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=n%d", redeemer, i))
		cmd.Stderr = t.Output()
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(in, path+" "+token.Text()); err != nil {
			t.Fatal(err)
		}
		gates, procs = append(gates, in), append(procs, cmd)
	}
	for _, g := range gates { // all have started: now they run
		g.Close()
	}
	codes := map[int]int{}
	for _, cmd := range procs {
		_ = cmd.Wait() // the exit code says it all
		codes[cmd.ProcessState.ExitCode()]++
	}
	if diff := cmp.Diff(map[int]int{0: 1, 1: n - 1}, codes); diff != "" {
		t.Errorf("exit codes, 0 for won and 1 for used (-want +got):\n%s", diff)
	}
}

func TestALockThatIsNeverReleasedIsReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	held, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if ok, err := flock.TryLock(held); !ok || err != nil {
		t.Fatal(ok, err)
	}
	inBubble(t, func(t *testing.T) {
		start := time.Now()
		_, err := (&TokenStore{Path: path}).Create(time.Hour, "", start)
		if err == nil || !strings.Contains(err.Error(), path+".lock: held by another process") {
			t.Errorf("got %v", err)
		}
		if waited := time.Since(start); waited < lockTimeout || waited > lockTimeout+time.Second {
			t.Errorf("waited %s, want about %s", waited, lockTimeout)
		}
	})
}

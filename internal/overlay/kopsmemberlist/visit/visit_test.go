package visit

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

func unhex(t *testing.T, dump string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(dump), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var at = netip.MustParseAddrPort("10.0.0.1:4000")

// member answers one visit, having checked what it was asked.
func member(t *testing.T, want, answer []byte) (Dialer, <-chan struct{}) {
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("asked\n%x, %v; want\n%x", got, err, want)
		}
		far.Write(answer)
	}()
	return func(context.Context, netip.AddrPort) (net.Conn, error) { return near, nil }, done
}

// The exchange of the interoperability specification, part D4, with an answer
// of the same form.
func TestTellSaysWhatTheSpecificationCaptured(t *testing.T) {
	request := unhex(t, `06 83 a44a6f696e c2 a54e6f646573 00 ac5573657253746174654c656e 2e
		0a2c 0a03 646e73 1225 0a23 0a0f 646e732f6c6f63616c2f412f726177 1210 0a08 31302e322e322e32 18 a29e8ed806`)
	answer := unhex(t, `06 83 a44a6f696e c2 a54e6f646573 00 ac5573657253746174654c656e 2f
		0a2d 0a03 646e73 1226 0a24 0a12 646e732f6c6f63616c2f4e532f6c6f63616c 120e 0a06 676f73736970 18 a09e8ed806`)
	dial, done := member(t, request, answer)
	got, err := Push(t.Context(), dial, at, legacy.Entry{Key: "dns/local/A/raw", Record: legacy.Record{Value: "10.2.2.2", Version: 1795395362}})
	<-done
	if err != nil {
		t.Fatal(err)
	}
	want := []legacy.Entry{{Key: legacy.MarkerKey, Record: legacy.Record{Value: legacy.MarkerValue, Version: 1795395360}}}
	if diff := cmp.Diff(want, got.State); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}

func TestAVisitSaysWhereItFailed(t *testing.T) {
	refuse := func(context.Context, netip.AddrPort) (net.Conn, error) { return nil, errors.New("no way") }
	if _, err := Read(t.Context(), refuse, at); err == nil || !strings.Contains(err.Error(), "read memberlist peer 10.0.0.1:4000: no way") {
		t.Errorf("read: %v", err)
	}
	if _, err := Push(t.Context(), refuse, at); err == nil || !strings.Contains(err.Error(), "tell memberlist peer 10.0.0.1:4000: no way") {
		t.Errorf("tell: %v", err)
	}
}

func TestAVisitOfASilentMemberEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		go io.Copy(io.Discard, far)
		silent := func(context.Context, netip.AddrPort) (net.Conn, error) { return near, nil }
		if _, err := Read(t.Context(), silent, at); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
	})
}

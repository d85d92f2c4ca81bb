package wire

import (
	"bytes"
	"crypto/ecdh"
	"encoding/hex"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The vectors below are those of the interoperability specification; each test
// names the section. Blanks in dumps are for people.

func unhex(t testing.TB, dump ...string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(strings.Join(dump, "")), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func privateKey(t testing.TB, dump string) *ecdh.PrivateKey {
	t.Helper()
	key, err := ecdh.X25519().NewPrivateKey(unhex(t, dump))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// script is a connection whose other side has said everything already.
type script struct {
	io.Reader
	sent bytes.Buffer
}

func (s *script) Write(b []byte) (int, error) { return s.sent.Write(b) }

func TestNamesAreHalfASHA256(t *testing.T) { // A1
	for node, want := range map[string]string{
		"node-a":                     "66570ff05a2074043084d4aca94293ef",
		"node-b":                     "93ef37c6157138222b21a42be52183d0",
		"observer-1":                 "8d4c7e41146a6f79834e90d18857c745",
		"i-0123456789abcdef0":        "57df73291f7c539919b062b1a6e8a901",
		"dns-controller.ip-10-0-0-1": "edf6f9c2bc971d07e01b1ff7e743e85e",
	} {
		t.Run(node, func(t *testing.T) {
			got := NameOf(node)
			if got.String() != want {
				t.Errorf("NameOf(%q) = %s, want %s", node, got, want)
			}
			if back, err := ParseName(want); err != nil || back != got {
				t.Errorf("ParseName(%q) = %s, %v", want, back, err)
			}
		})
	}
}

const (
	dialerPrivate   = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
	dialerPublic    = "07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c"
	acceptorPrivate = "2122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f40"
	acceptorPublic  = "5869aff450549732cbaaed5e5df9b30a6da31cb0e5742bad5ad4a1a768f1a67b"
)

func TestSyntheticCryptoVector(t *testing.T) { // D1
	type frames map[bool][]string // by whether the dialer sends; heartbeats from frame 0 on
	for _, tc := range []struct {
		name, secret, key string
		frames            frames
	}{
		{"with a password", "s3cret", "28082479453e9277074bfa3ddfa842435bde466290286f039e018c7ff5f5f14a", frames{
			true:  {"0000001173547644ea54e4964bbe97888088e18ac0", "000000118cb47efa1619b449de7ba731fdb55ee555"},
			false: {"00000011acbc0912d0502e769c5e6748ae52b47592", "000000115f57b8edfddc54df99bff35a018bb24d8f"},
		}},
		{"with the empty password of kOps", "", "f882246dca331c361851ee80631d1642a119ec4a6be31f915a6249ae1b789f82", frames{
			true:  {"00000011318d419eb8f6eff44647dfba9f52f7f5be"},
			false: {"00000011ef5b2115006d66871069d2cc083bffdfa6"},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for dialer, want := range tc.frames {
				own, ownPublic, remotePublic := dialerPrivate, dialerPublic, acceptorPublic
				if !dialer {
					own, ownPublic, remotePublic = acceptorPrivate, acceptorPublic, dialerPublic
				}
				// The other side's greeting, key and frames lie ready.
				conn := &script{Reader: bytes.NewReader(unhex(t, "77656176650102 01", remotePublic, strings.Join(tc.frames[!dialer], "")))}
				s, err := Handshake(conn, dialer, []byte(tc.secret), privateKey(t, own))
				if err != nil {
					t.Fatal(err)
				}
				if got := hex.EncodeToString(s.key[:]); got != tc.key {
					t.Fatalf("session key %s, want %s", got, tc.key)
				}
				if got, want := hex.EncodeToString(conn.sent.Bytes()), "77656176650202"+"01"+ownPublic; got != want {
					t.Errorf("handshake sent %s, want %s", got, want)
				}
				for i, frame := range want {
					conn.sent.Reset()
					if _, err := s.Write([]byte{0}); err != nil {
						t.Fatal(err)
					}
					if got := hex.EncodeToString(conn.sent.Bytes()); got != frame {
						t.Errorf("dialer %v, frame %d is %s, want %s", dialer, i, got, frame)
					}
				}
				for i := range tc.frames[!dialer] {
					plain, err := s.Read()
					if err != nil || !bytes.Equal(plain, []byte{0}) {
						t.Errorf("dialer %v, frame %d received is %x, %v; want 00", dialer, i, plain, err)
					}
				}
			}
		})
	}
}

const (
	captureServerPublic = "fac404a92b9f9ffb6b91c769115721ddc1db20cdce5734a5977c1efeefc41300"
	captureKey          = "650ceb57604e8819acfe1ae8823e75b6fcde3d4e15ce8f711bae221f910d7c7d"
	captureFeatures     = `
		0d7f040102ff8000010c010c0000
		ffa0 ff80 00 07
		0f 506565724e616d65466c61766f7572 04 68617368
		07 53686f72744944 03 323931
		07 54727573746564 05 66616c7365
		04 4e616d65 20 3864346337653431313436613666373938333465393064313838353763373435
		08 4e69636b4e616d65 0a 6f627365727665722d31
		03 554944 13 31313131313131313131313131313131313131
		06 436f6e6e4944 13 32323232323232323232323232323232323232`
	captureFeaturesFramed = `000000c0 e052001a4ea14a592d3b9015e1f1f51a4cb64af9993c18110c4b54c5af2e8a9c0449638a78669e92199db0cab64ee4003f0ef08c534a26dbb14be0d356361a3551203e0c86e0728d8a73e43998f426bc1f59a7e4b23d26225ca68318a6413d467fd1ed4d7bcf1e94dd1ce57ddde368ecf385dc8515bd91d78645a0671e6d3e7da18d6689c603cb5d2dea0fa71190426b6114159816697b335eca3a9a652c5b4e39dc6ffc564cc6740f7beb402f67fc092ea068f20d909ee50fc4347a3cebd039`
	capturePeerFramed     = `000000bd 90c71c6402863782564df0fdb921e64a35a36b3dc9a0fe3ba8304fb41a38bad2faf3186eabfad4f9dda4ca6b60689f5ed0ce00e3bb5e349df7ce6074defb36a4229176e6aa12b9767ab2cb434dd78166440b712306082c1ba8f276ff675188c39eb6ac0d87472fca11db0b942af91c920a97f81884e9d11e9ba0d09e5d9504c980eb3496a4a52fdd982991fd829090d21277ad6813197e62901a3ed5306dbf71a9af5f57db14eed850d0c94f5f946fa2077df1ab6d0b4d6441d9861582`
	captureGossipFramed   = `00000086 4a7ab67054a9f98895635f7302c830b7eec87f6881b72b6fa932e1322eca0dd07e8b2bc4af2e84a458f86a65970f50571d995f4a009f4e2d7e6daa8c82a000737810c918129fd536b5b8e56d9c039cccaafbf22cb76924364f063583610f71f3d05406ed3c689d0e869e0e803dab294c9070234dc86eadefe7b5da28ca7b94ac40e9a97717cf`
	captureGossip         = `
		04 06 0c 00 03 646e73
		23 0c 00 20 3636353730666630356132303734303433303834643461636139343239336566
		49 0a 00 46
		0a44 0a27 646e732f6c6f63616c2f412f6170692e696e7465726e616c2e746573742e6b38732e6c6f63616c
		1219 0a11 31302e302e302e312c31302e302e302e32 18 c89a8ed806`
	captureBroadcastFramed = `00000072 d4c5e0818f9796669fe95a7aaba537ebe6cf228db60af61dbc411c6dca764a77648d487bb2262b222999f0afd1abc7f2752558324537cc8d0d0f00b41d3ebff437191482581e5306fb901381b0e1c52a61c53d92fc51557eefd3c640e1e01867ef5b53a3461e075af985a9702ec7cb1dc076`
	captureBroadcast       = `
		06 060c0003646e73 230c0020 3864346337653431313436613666373938333465393064313838353763373435 350a0032
		0a30 0a1c 646e732f6c6f63616c2f412f782e746573742e6b38732e6c6f63616c 1210 0a08 31302e392e392e39 18 c89a8ed806`
)

var (
	observer = Features{Name: NameOf("observer-1"), NickName: "observer-1", UID: 1111111111111111111, ConnID: 2222222222222222222, ShortID: 291, HasShortID: true}
	nodeA    = Features{Name: NameOf("node-a"), NickName: "node-a", UID: 8449040842303197217, ConnID: 10580999598720723978, ShortID: 574, HasShortID: true}
)

// A dialer with the captured key pair sends what was captured, and opens what
// the real peer sent.
func TestCapturedSession(t *testing.T) { // D2
	conn := &script{Reader: bytes.NewReader(unhex(t,
		"77656176650102 01", captureServerPublic, capturePeerFramed))}
	s, err := Handshake(conn, true, []byte("s3cret"), privateKey(t, dialerPrivate))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(s.key[:]), captureKey; got != want {
		t.Fatalf("session key %s, want %s", got, want)
	}
	conn.sent.Reset()
	remote, err := s.Exchange(observer)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(nodeA, remote); diff != "" {
		t.Errorf("features of the real peer (-want +got):\n%s", diff)
	}
	if want := unhex(t, captureFeaturesFramed); !bytes.Equal(conn.sent.Bytes(), want) {
		t.Errorf("features sent as\n%x, want\n%x", conn.sent.Bytes(), want)
	}
	conn.sent.Reset()
	m, err := ParseMessage(unhex(t, captureBroadcast))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(m.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if want := unhex(t, captureBroadcastFramed); !bytes.Equal(conn.sent.Bytes(), want) {
		t.Errorf("broadcast sent as\n%x, want\n%x", conn.sent.Bytes(), want)
	}
	// Frame 1, the topology, is not in the specification.
	s.received++
	s.in.Reset(bytes.NewReader(unhex(t, captureGossipFramed)))
	plain, err := s.Read()
	if want := unhex(t, captureGossip); err != nil || !bytes.Equal(plain, want) {
		t.Errorf("gossip received as %x, %v; want\n%x", plain, err, want)
	}
}

func TestBothEndsAgreeOnTheSharedKey(t *testing.T) { // D1, D2
	for _, tc := range []struct{ name, own, public, want string }{
		{"the dialer", dialerPrivate, acceptorPublic, "ec88f6e13b22bf9f04d480e0d8525c08ac7e2f48e212742bcbcafa104a74b08d"},
		{"the acceptor", acceptorPrivate, dialerPublic, "ec88f6e13b22bf9f04d480e0d8525c08ac7e2f48e212742bcbcafa104a74b08d"},
		{"the dialer of the capture", dialerPrivate, captureServerPublic, "b61c9cbb8dd484e8fa96f02083381108544a72fd3bd2dc89b37cb4bfb4bf2c65"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := sharedKey(privateKey(t, tc.own), unhex(t, tc.public))
			if err != nil || hex.EncodeToString(got[:]) != tc.want {
				t.Errorf("shared key %x, %v; want %s", got, err, tc.want)
			}
		})
	}
}

// Every frame of the capture is sealed byte for byte by the end that sent it, and
// opened by the other.
func TestCapturedFramesInBothDirections(t *testing.T) { // D2
	key := [32]byte(unhex(t, captureKey))
	for _, tc := range []struct {
		name          string
		fromDialer    bool
		number        uint64
		framed, plain string // no plain: not in the specification
	}{
		{"features of the dialer", true, 0, captureFeaturesFramed, captureFeatures},
		{"broadcast of the dialer", true, 1, captureBroadcastFramed, captureBroadcast},
		{"features of the acceptor", false, 0, capturePeerFramed, ""},
		{"gossip of the acceptor", false, 2, captureGossipFramed, captureGossip},
	} {
		t.Run(tc.name, func(t *testing.T) {
			direction := byte(0x40)
			if tc.fromDialer {
				direction = 0xc0
			}
			framed := unhex(t, tc.framed)
			receiver := Session{in: bufioReader(bytes.NewReader(framed)), key: key, received: tc.number}
			receiver.recvNonce[0] = direction
			plain, err := receiver.Read()
			if err != nil || tc.plain != "" && !bytes.Equal(plain, unhex(t, tc.plain)) {
				t.Fatalf("opened as\n%x, %v; want\n%s", plain, err, tc.plain)
			}
			conn := new(script)
			sender := Session{conn: conn, key: key, sent: tc.number}
			sender.sendNonce[0] = direction
			if _, err := sender.Write(plain); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(conn.sent.Bytes(), framed) {
				t.Errorf("sealed as\n%x, want\n%x", conn.sent.Bytes(), framed)
			}
		})
	}
}

func TestLengthsOfTheDebugCapture(t *testing.T) { // D3
	for _, tc := range []struct {
		name, dump string
		want       int
	}{
		{"topology gossip", captureTopology, 0x198},
		{"gossip of a record", captureGossip, 0x76},
		{"empty gossip", captureEmptyGossip, 0x30},
		{"heartbeat", "00", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := ParseMessage(unhex(t, tc.dump))
			if err != nil {
				t.Fatal(err)
			}
			if got := len(m.Append(nil)); got != tc.want {
				t.Errorf("%d bytes, want %d", got, tc.want)
			}
		})
	}
}

func TestFeaturesVector(t *testing.T) { // D2
	want := unhex(t, captureFeatures)
	if got := observer.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("features encoded as\n%x, want\n%x", got, want)
	}
	got, err := ParseFeatures(want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(observer, got); diff != "" {
		t.Errorf("features (-want +got):\n%s", diff)
	}
}

var messageVectors = []struct {
	name, dump string
	want       Message
}{
	{"gossip of a record (D2)", captureGossip, Message{Tag: Gossip, Channel: "dns", From: NameOf("node-a")}},
	{"broadcast of a record (D2)", captureBroadcast, Message{Tag: Broadcast, Channel: "dns", From: NameOf("observer-1")}},
	{"empty gossip (D3)", captureEmptyGossip,
		Message{Tag: Gossip, Channel: "dns", From: NameOf("node-a")}},
	{"gossip of the topology (D3)", captureTopology, Message{Tag: Gossip, Channel: "topology", From: NameOf("node-a")}},
	{"heartbeat (D3)", "00", Message{Tag: Heartbeat}},
}

func TestMessageVectors(t *testing.T) {
	for _, v := range messageVectors {
		t.Run(v.name, func(t *testing.T) {
			frame := unhex(t, v.dump)
			got, err := ParseMessage(frame)
			if err != nil {
				t.Fatal(err)
			}
			if again := got.Append(nil); !bytes.Equal(again, frame) {
				t.Errorf("encoded again as\n%x, want\n%x", again, frame)
			}
			got.Data = nil
			if diff := cmp.Diff(v.want, got); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

const captureEmptyGossip = "04 060c0003646e73 230c0020 3636353730666630356132303734303433303834643461636139343239336566 030a0000"

const captureTopology = `
	04
	0b 0c 00 08 746f706f6c6f6779
	23 0c 00 20 3636353730666630356132303734303433303834643461636139343239336566
	fe0164 0a 00 fe015f` + captureUpdate

const captureUpdate = `
	62 ff81 03 01 01 0b 7065657253756d6d617279 01 ff82 00 01 06
	   01 08 4e616d6542797465 01 0a 00
	   01 08 4e69636b4e616d65 01 0c 00
	   01 03 554944 01 06 00
	   01 07 56657273696f6e 01 06 00
	   01 07 53686f72744944 01 06 00
	   01 0a 48617353686f72744944 01 02 00 00 00
	2f ff82
	   01 10 66570ff05a2074043084d4aca94293ef
	   01 06 6e6f64652d61
	   01 f8 d14d4f0cd0743a16
	   01 02
	   01 fe 09c1
	   01 01 00
	0d ff85 02 01 02 ff86 00 01 ff84 00 00
	5b ff83 03 01 01 11 636f6e6e656374696f6e53756d6d617279 01 ff84 00 01 04
	   01 08 4e616d6542797465 01 0a 00   01 0d 52656d6f746554435041646472 01 0c 00
	   01 08 4f7574626f756e64 01 02 00   01 0b 45737461626c6973686564 01 02 00 00 00
	2a ff86 00 01
	   01 10 8d4c7e41146a6f79834e90d18857c745
	   01 0f 3132372e302e302e313a3536303534
	   02 01 00
	31 ff82 01 10 8d4c7e41146a6f79834e90d18857c745 01 0a 6f627365727665722d31 01 f8 0f6b75ab2bc471c7 02 fe 0123 01 01 00
	04 ff86 00 00`

var topologyVector = []Record{
	{Name: NameOf("node-a"), NickName: "node-a", UID: 0xd14d4f0cd0743a16, Version: 2, ShortID: 2497, HasShortID: true,
		Links: []Link{{Name: NameOf("observer-1"), Addr: "127.0.0.1:56054", Established: true}}},
	{Name: NameOf("observer-1"), NickName: "observer-1", UID: 1111111111111111111, ShortID: 291, HasShortID: true},
}

func records(t testing.TB, u *Update) (out []Record) {
	t.Helper()
	for i := range u.Heads {
		r, err := u.Record(i)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func TestTopologyVector(t *testing.T) { // D3
	if got := len(unhex(t, captureTopology)); got != 408 {
		t.Fatalf("the capture has %d bytes, want 408: mistyped", got)
	}
	want := unhex(t, captureUpdate)
	u, err := ParseUpdate(want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(topologyVector, records(t, u)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	var encoded []Encoded
	for _, r := range topologyVector {
		encoded = append(encoded, r.Encode())
	}
	if got := AppendUpdate(nil, encoded); !bytes.Equal(got, want) {
		t.Errorf("encoded as\n%x, want\n%x", got, want)
	}
}

func TestGobExamples(t *testing.T) { // A5
	name := NameOf("node-a").String()
	for _, tc := range []struct {
		name string
		got  []byte
		want string
	}{
		{"a channel", appendGobScalar(nil, gobString, "dns"), "06 0c 00 03 64 6e 73"},
		{"a name", appendGobScalar(nil, gobString, name), "23 0c 00 20" + hex.EncodeToString([]byte(name))},
		{"empty data", appendGobScalar(nil, gobBytes, ""), "03 0a 00 00"},
		{"data of 70 bytes", appendGobScalar(nil, gobBytes, strings.Repeat("x", 70)), "49 0a 00 46" + strings.Repeat("78", 70)},
		{"data of 351 bytes", appendGobScalar(nil, gobBytes, strings.Repeat("x", 351)), "fe 01 64 0a 00 fe 01 5f" + strings.Repeat("78", 351)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if want := unhex(t, tc.want); !bytes.Equal(tc.got, want) {
				t.Errorf("encoded as %x, want %x", tc.got, want)
			}
		})
	}
}

package enrol

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/identity"
)

const (
	// APIVersion is in every request and response. Fields may be added within a version; readers ignore fields that
	// they do not know.
	APIVersion = "enrol.muster/v1"

	// EnrolPath and RenewPath are the URL paths of the two calls. Both take POST.
	EnrolPath = "/v1/enrol"
	RenewPath = "/v1/renew"

	// maxRequest bounds a request in bytes; a real one has less than 1 KiB.
	maxRequest = 16 << 10
	// maxResponse bounds what a client reads of a response, in bytes.
	maxResponse = 64 << 10
)

// request is the body of both calls.
type request struct {
	APIVersion string `json:"apiVersion"`
	// Token admits an enrolment. Renewals have none.
	Token string `json:"token,omitempty"`
	// CSR is a PKCS #10 request, in PEM or in base64 of DER. Its only URI name is the requested identity.
	CSR string `json:"csr"`
}

// response is the body of a successful call.
type response struct {
	APIVersion  string    `json:"apiVersion"`
	Certificate string    `json:"certificate"` // PEM
	CA          string    `json:"ca"`          // PEM
	NotAfter    time.Time `json:"notAfter"`
}

// Kinds of refusal on the wire. They are part of the API.
const (
	kindBadRequest   = "bad-request"
	kindTooLarge     = "too-large"
	kindIncomplete   = "body-incomplete"
	kindBadCSR       = "bad-csr"
	kindIdentity     = "identity-refused"
	kindTokenUnknown = "token-unknown"
	kindTokenExpired = "token-expired"
	kindTokenUsed    = "token-used"
	kindTokenNode    = "token-node"
	kindNoCert       = "certificate-required"
	kindCertRefused  = "certificate-refused"
	kindRateLimited  = "rate-limited"
	kindInternal     = "internal"
)

// fault is why a request was not granted, at the server and decoded by the client.
type fault struct {
	status  int
	kind    string
	message string
}

// errorBody is the body of an error response.
type errorBody struct {
	Error struct {
		Kind    string `json:"kind"`
		Message string `json:"message"`
	} `json:"error"`
}

// Error describes the fault. The message may come from the network, so it is quoted and truncated.
func (f *fault) Error() string { return fmt.Sprintf("%.40s: %.200q", f.kind, f.message) }

// Is maps kinds on the wire to the sentinels that callers branch on.
func (f *fault) Is(target error) bool {
	switch target {
	case ErrTokenUnknown:
		return f.kind == kindTokenUnknown
	case ErrTokenExpired:
		return f.kind == kindTokenExpired
	case ErrTokenUsed:
		return f.kind == kindTokenUsed
	case ErrTokenNode:
		return f.kind == kindTokenNode
	}
	return false
}

// definitive reports whether the same server would refuse again.
func (f *fault) definitive() bool {
	switch f.kind {
	case kindBadRequest, kindTooLarge, kindBadCSR, kindIdentity, kindNoCert, kindCertRefused,
		kindTokenUnknown, kindTokenExpired, kindTokenUsed, kindTokenNode:
		return true
	}
	return false
}

// knowsToken reports whether the refusing server has the token in its store. Then no other server would accept it.
func (f *fault) knowsToken() bool {
	switch f.kind {
	case kindTokenExpired, kindTokenUsed, kindTokenNode:
		return true
	}
	return false
}

// tokenFault maps an error of the token store to a fault; nil if err is not about the token.
func tokenFault(err error) *fault {
	switch {
	case errors.Is(err, ErrTokenUnknown):
		return &fault{http.StatusUnauthorized, kindTokenUnknown, ErrTokenUnknown.Error()}
	case errors.Is(err, ErrTokenExpired):
		return &fault{http.StatusForbidden, kindTokenExpired, ErrTokenExpired.Error()}
	case errors.Is(err, ErrTokenUsed):
		return &fault{http.StatusForbidden, kindTokenUsed, ErrTokenUsed.Error()}
	case errors.Is(err, ErrTokenNode):
		return &fault{http.StatusForbidden, kindTokenNode, ErrTokenNode.Error()}
	}
	return nil
}

// decodeRequest decodes exactly one request.
func decodeRequest(body []byte) (request, *fault) {
	dec := json.NewDecoder(bytes.NewReader(body))
	var req request
	// The decoder's own errors may quote the token.
	if err := dec.Decode(&req); err != nil {
		return request{}, &fault{http.StatusBadRequest, kindBadRequest, "body is not a JSON object of this API"}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return request{}, &fault{http.StatusBadRequest, kindBadRequest, "something follows the JSON object"}
	}
	if req.APIVersion != APIVersion {
		return request{}, &fault{http.StatusBadRequest, kindBadRequest, fmt.Sprintf("apiVersion is %.40q; this server speaks %q", req.APIVersion, APIVersion)}
	}
	return req, nil
}

// parseCSR returns a signing request and the identity that it asks for, if it is signed by its own key.
func parseCSR(text string) (*x509.CertificateRequest, identity.Identity, *fault) {
	refuse := func(kind, format string, args ...any) (*x509.CertificateRequest, identity.Identity, *fault) {
		status := http.StatusBadRequest
		if kind == kindIdentity {
			status = http.StatusForbidden
		}
		// Truncated: the text goes to the log and may quote 16 KiB of a stranger's choosing.
		return nil, identity.Identity{}, &fault{status, kind, fmt.Sprintf("%.200s", fmt.Sprintf(format, args...))}
	}
	der, err := decodeCSR(text)
	if err != nil {
		return refuse(kindBadCSR, "csr: %v", err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return refuse(kindBadCSR, "csr does not parse")
	}
	if err := checkPublicKey(csr.PublicKey); err != nil {
		return refuse(kindBadCSR, "csr: %v", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return refuse(kindBadCSR, "csr is not signed by its own key")
	}
	if len(csr.DNSNames)+len(csr.IPAddresses)+len(csr.EmailAddresses) > 0 {
		return refuse(kindIdentity, "csr asks for names besides its identity")
	}
	if len(csr.URIs) != 1 {
		return refuse(kindIdentity, "csr carries %d identities; want 1", len(csr.URIs))
	}
	id, err := identity.Parse(csr.URIs[0])
	if err != nil {
		return refuse(kindIdentity, "%v", err)
	}
	return csr, id, nil
}

func decodeCSR(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "-----BEGIN") {
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, errors.New("neither PEM nor base64")
		}
		return der, nil
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != pemRequest || len(rest) > 0 {
		return nil, fmt.Errorf("not one PEM block %q", pemRequest)
	}
	return block.Bytes, nil
}

package enrol

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
)

// Reasons for refusing a token. A wrong secret is ErrTokenUnknown too, so that guessing does not reveal which tokens
// exist.
var (
	ErrTokenUnknown = errors.New("token is not known here")
	ErrTokenExpired = errors.New("token has expired")
	ErrTokenUsed    = errors.New("token has been used by another node or key")
	ErrTokenNode    = errors.New("token is for another node")
)

const (
	tokenIDLen     = 6  // characters
	tokenSecretLen = 20 // bytes, 160 bits: a whole number of base32 characters
	tokenTextLen   = tokenIDLen + 1 + tokenSecretLen*8/5
	tokenAlphabet  = "abcdefghijklmnopqrstuvwxyz234567"
)

func tokenEncoding() *base32.Encoding {
	return base32.NewEncoding(tokenAlphabet).WithPadding(base32.NoPadding)
}

// A Token admits one new worker once. Its ID is public and may be logged; the
// secret shows only in [Token.Text]. Printing a Token in any way redacts it.
type Token struct {
	ID     string
	secret [tokenSecretLen]byte
}

// newToken returns a random token.
func newToken() (Token, error) {
	var id [4]byte // six characters of five bits need 30 of these 32
	var t Token
	if _, err := rand.Read(id[:]); err != nil {
		return Token{}, err
	}
	if _, err := rand.Read(t.secret[:]); err != nil {
		return Token{}, err
	}
	t.ID = tokenEncoding().EncodeToString(id[:])[:tokenIDLen]
	return t, nil
}

// ParseToken reads the text form, "ID.SECRET", ignoring surrounding white space. The error never quotes the text.
func ParseToken(text string) (Token, error) {
	text = strings.TrimSpace(text)
	if len(text) != tokenTextLen {
		return Token{}, fmt.Errorf("token has %d characters; want %d", len(text), tokenTextLen)
	}
	id, secret := text[:tokenIDLen], text[tokenIDLen+1:]
	if text[tokenIDLen] != '.' {
		return Token{}, errors.New("token is not of the form ID.SECRET")
	}
	if strings.Trim(id, tokenAlphabet) != "" {
		return Token{}, errors.New("token's ID holds a character that no token has")
	}
	// The decoder ignores line ends, which would allow several spellings of a token.
	if strings.Trim(secret, tokenAlphabet) != "" {
		return Token{}, errors.New("token's secret holds a character that no token has")
	}
	t := Token{ID: id}
	if _, err := tokenEncoding().Decode(t.secret[:], []byte(secret)); err != nil {
		return Token{}, errors.New("token's secret does not decode")
	}
	return t, nil
}

// Text returns the text form, which holds the secret. It is shown once, to the
// person who made the token.
func (t Token) Text() string { return t.ID + "." + tokenEncoding().EncodeToString(t.secret[:]) }

// String returns the token without its secret.
func (t Token) String() string { return t.ID + ".(secret)" }

// GoString returns the token without its secret.
func (t Token) GoString() string { return fmt.Sprintf("enrol.Token(%s)", t) }

// hash is what is stored of the secret. Plain SHA-256 rather than bcrypt: a slow hash protects passwords that people
// chose, but 160 random bits cannot be guessed at any speed, and the server would pay for the slowness whenever a
// stranger sends it anything.
func (t Token) hash() [sha256.Size]byte { return sha256.Sum256(t.secret[:]) }

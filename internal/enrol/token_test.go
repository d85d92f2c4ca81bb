package enrol

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestParseToken(t *testing.T) {
	secret := strings.Repeat("abcdefgh234567mn", 2)
	tests := []struct {
		name, text, want string // want is part of the error; "" means valid
	}{
		{"as printed", "abc234." + secret, ""},
		{"with a line end, as a file has it", "abc234." + secret + "\n", ""},
		{"nothing", "", "0 characters"},
		{"no dot", "abc234x" + secret, "ID.SECRET"},
		{"a short secret", "abc234." + secret[1:], "38 characters"},
		{"an upper-case ID", "ABC234." + secret, "ID holds"},
		{"a digit that base32 lacks", "abc234." + "1" + secret[1:], "secret holds"},
		{"a line end inside the secret", "abc234." + secret[:8] + "\n" + secret[9:], "secret holds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			token, err := ParseToken(tt.text)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("got %v, %v; want an error with %q", token, err, tt.want)
				}
				if strings.Contains(err.Error(), secret[10:20]) {
					t.Errorf("error quotes the secret: %v", err)
				}
				return
			}
			if err != nil || token.Text() != strings.TrimSpace(tt.text) {
				t.Fatalf("got %v, %v", token, err)
			}
		})
	}
}

func TestNoWayOfPrintingATokenShowsItsSecret(t *testing.T) {
	token, err := newToken()
	if err != nil {
		t.Fatal(err)
	}
	secret := token.Text()[tokenIDLen+1:]
	raw, literal := fmt.Sprint(token.secret), fmt.Sprintf("%#v", token.secret)
	var logs logBuffer
	logs.logger().Info("x", "token", token, "pointer", &token)
	encoded, err := json.Marshal(token)
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{
		fmt.Sprint(token), fmt.Sprintf("%v %+v %#v %s %q", token, token, token, token, token), fmt.Sprintf("%v", &token),
		fmt.Sprintf("%x", token), logs.String(), string(encoded),
	} {
		if strings.Contains(out, secret) || strings.Contains(out, raw) || strings.Contains(out, literal) || strings.Contains(out, fmt.Sprintf("%x", token.secret[:8])) {
			t.Errorf("shows the secret: %s", out)
		}
	}
	if !strings.Contains(fmt.Sprint(token), token.ID) {
		t.Errorf("%v lacks the ID %s", token, token.ID)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("abc234." + strings.Repeat("abcdefgh234567mn", 2))
	f.Add(".")
	f.Fuzz(func(t *testing.T, s string) {
		token, err := ParseToken(s)
		if err != nil {
			return
		}
		if got := token.Text(); got != strings.TrimSpace(s) {
			t.Errorf("%q reads back as %q: two spellings of one token", s, got)
		}
	})
}

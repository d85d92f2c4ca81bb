package gate

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/report"
)

func TestACommandAnswersByItsExitCode(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       report.Verdict
		says       string
	}{
		{"0 is a pass", `ok=sh -c "echo all well"`, report.Pass, "exit code 0: all well"},
		{"1 is a fail", `no=sh -c "echo too many errors; exit 1"`, report.Fail, "exit code 1: too many errors"},
		{"2 is unknown", `bad=sh -c "exit 2"`, report.Unknown, "exit status 2"},
		{"a signal is unknown", `killed=sh -c "kill -9 $$"`, report.Unknown, "signal: killed"},
		{"no shell looks at it", `plain=echo $HOME '; rm -rf x'`, report.Pass, "exit code 0: $HOME ; rm -rf x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, err := Exec(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if v, says := g.Check(t.Context()); v != tt.want || says != tt.says {
				t.Errorf("%s, %q; want %s, %q", v, says, tt.want, tt.says)
			}
		})
	}
}

func TestOnlyTheEndOfWhatACommandSaysIsKept(t *testing.T) {
	g, err := Exec(`loud=sh -c "seq 1 100000"`)
	if err != nil {
		t.Fatal(err)
	}
	if _, says := g.Check(t.Context()); len(says) > 2*maxOutput || !strings.HasSuffix(says, "99999 100000") {
		t.Errorf("%d bytes that end in %q", len(says), says[max(0, len(says)-20):])
	}
}

func TestACommandThatCannotBeRunIsRefused(t *testing.T) {
	for _, text := range []string{"", "name", "=true", "name=", "name=  ", "name=no-such-program-anywhere", `name=echo "open`, `name=echo \`} {
		if _, err := Exec(text); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v; want one line", text, err)
		}
	}
}

func TestWordsAreSplitAsAShellWould(t *testing.T) {
	for text, want := range map[string][]string{
		`a b  c`:           {"a", "b", "c"},
		`a 'b c' "d e"`:    {"a", "b c", "d e"},
		`a\ b ''`:          {"a b", ""},
		`--q='x "y"'z`:     {`--q=x "y"z`},
		`"a\"b" '\'`:       {`a"b`, `\`},
		"tabs\tand\nlines": {"tabs", "and", "lines"},
	} {
		got, err := splitWords(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestAQueryIsComparedWithItsCondition(t *testing.T) {
	vector := func(values ...string) string {
		var series []string
		for _, v := range values {
			series = append(series, fmt.Sprintf(`{"metric":{},"value":[1,%q]}`, v))
		}
		return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(series, ",") + `]}}`
	}
	for _, tt := range []struct {
		name, condition, answer string
		want                    report.Verdict
	}{
		{"below the limit", "< 0.5", vector("0.2"), report.Pass},
		{"at the limit", "< 0.5", vector("0.5"), report.Fail},
		{"one of many over it", "<= 1", vector("0", "1", "2"), report.Fail},
		{"all at least that", ">= 1", vector("1", "2"), report.Pass},
		{"a scalar", "== 3", `{"status":"success","data":{"resultType":"scalar","result":[1,"3"]}}`, report.Pass},
		{"no series", "< 1", vector(), report.Unknown},
		{"not a number fails", "< 1", vector("NaN"), report.Fail},
		{"a matrix", "< 1", `{"status":"success","data":{"resultType":"matrix","result":[]}}`, report.Unknown},
		{"a query that is wrong", "< 1", `{"status":"error","error":"parse error"}`, report.Unknown},
		{"something else", "< 1", `<html>`, report.Unknown},
		{"a sample that is none", "< 1", `{"status":"success","data":{"resultType":"vector","result":[{"value":[1]}]}}`, report.Unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if user, password, _ := r.BasicAuth(); user != "ann" || password != "secret" {
					t.Errorf("asked as %q", user)
				}
				if got := r.FormValue("query"); got != `sum(errors{a="b|c"})` || r.URL.Path != "/prom/api/v1/query" {
					t.Errorf("asked %s for %q", r.URL.Path, got)
				}
				fmt.Fprint(w, tt.answer)
			}))
			defer srv.Close()
			g, err := Prometheus("errors=" + strings.Replace(srv.URL, "://", "://ann:secret@", 1) + `/prom|sum(errors{a="b|c"})|` + tt.condition)
			if err != nil {
				t.Fatal(err)
			}
			v, says := g.Check(t.Context())
			if v != tt.want || strings.Contains(says, "secret") {
				t.Errorf("%s, %q; want %s and no secret", v, says, tt.want)
			}
		})
	}
}

func TestAServerThatIsAwayIsUnknown(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	g, err := Prometheus("up=" + strings.Replace(srv.URL, "://", "://ann:secret@", 1) + "|up|== 1")
	if err != nil {
		t.Fatal(err)
	}
	if v, says := g.Check(t.Context()); v != report.Unknown || strings.Contains(says, "secret") {
		t.Errorf("%s, %q; want unknown and no secret", v, says)
	}
}

func TestAQueryThatCannotBeAskedIsRefused(t *testing.T) {
	for _, text := range []string{
		"", "x", "x=http://a", "x=http://a|up", "=http://a|up|== 1", "x=ftp://a|up|== 1", "x=a|up|== 1",
		"x=http://a||== 1", "x=http://a|up|", "x=http://a|up|1", "x=http://a|up|< one", "x=http://user:secret@a b|up|< 1",
	} {
		_, err := Prometheus(text)
		if err == nil || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v; want one line without the secret", text, err)
		}
	}
}

func FuzzParseSamples(f *testing.F) {
	f.Add([]byte(`{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"2"]}]}}`))
	f.Add([]byte(`{"status":"success","data":{"resultType":"scalar","result":[1,"NaN"]}}`))
	f.Add([]byte(`{"status":"error","error":"x"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if values, err := parseSamples("200 OK", body); err != nil && values != nil {
			t.Errorf("values and an error: %v", err)
		}
	})
}

package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// maxResponse bounds a response body, in bytes.
const maxResponse = 1 << 20

// Prometheus parses a gate from NAME=URL|QUERY|CONDITION, such as
//
//	errors=http://prometheus:9090|sum(rate(errors_total[1m]))|< 0.5
//
// The condition compares every sample of the result with a number. The gate passes if
// all satisfy it and fails if one does not. A result without samples is unknown: a gate
// on a renamed metric would never fail. Credentials in the URL are sent as basic
// authentication and never shown.
func Prometheus(text string) (reconcile.Gate, error) {
	name, rest, ok := strings.Cut(text, "=")
	base, rest, ok2 := strings.Cut(rest, "|")
	cut := strings.LastIndexByte(rest, '|')
	if !ok || !ok2 || name == "" || cut < 0 {
		return reconcile.Gate{}, errors.New("want NAME=URL|QUERY|CONDITION, such as errors=http://prometheus:9090|sum(rate(errors_total[1m]))|< 0.5")
	}
	q := query{text: strings.TrimSpace(rest[:cut])}
	u, err := url.Parse(base)
	switch {
	case err != nil, u != nil && (u.Host == "" || u.Scheme != "http" && u.Scheme != "https"):
		return reconcile.Gate{}, fmt.Errorf("gate %s: its URL is not one of a Prometheus server; want http:// or https://", name)
	case q.text == "":
		return reconcile.Gate{}, fmt.Errorf("gate %s: no query", name)
	}
	q.user, u.User = u.User, nil
	q.url = u.JoinPath("api/v1/query")
	if q.holds, q.condition, err = parseCondition(rest[cut+1:]); err != nil {
		return reconcile.Gate{}, fmt.Errorf("gate %s: %w", name, err)
	}
	return reconcile.Gate{Name: name, Within: defaultWithin, Every: defaultEvery, Check: q.check}, nil
}

// parseCondition parses a comparison with a number.
func parseCondition(text string) (holds func(float64) bool, says string, err error) {
	text = strings.TrimSpace(text)
	for _, op := range []struct {
		sign  string
		holds func(a, b float64) bool
	}{
		{"<=", func(a, b float64) bool { return a <= b }},
		{">=", func(a, b float64) bool { return a >= b }},
		{"==", func(a, b float64) bool { return a == b }},
		{"!=", func(a, b float64) bool { return a != b }},
		{"<", func(a, b float64) bool { return a < b }},
		{">", func(a, b float64) bool { return a > b }},
	} {
		if number, ok := strings.CutPrefix(text, op.sign); ok {
			limit, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
			if err != nil {
				return nil, "", fmt.Errorf("condition %q: %q is no number", text, strings.TrimSpace(number))
			}
			return func(v float64) bool { return op.holds(v, limit) }, text, nil
		}
	}
	return nil, "", fmt.Errorf("condition %q; want <, <=, >, >=, == or != and a number", text)
}

type query struct {
	url       *url.URL
	user      *url.Userinfo
	text      string
	condition string
	holds     func(float64) bool
}

func (q query) check(ctx context.Context) (report.Verdict, string) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	values, err := q.run(ctx)
	if err != nil {
		return report.Unknown, err.Error()
	}
	if len(values) == 0 {
		return report.Unknown, "the query has no sample; does the metric exist?"
	}
	for _, v := range values {
		if !q.holds(v) { // NaN satisfies no condition but !=
			return report.Fail, fmt.Sprintf("%v is not %s", v, q.condition)
		}
	}
	if len(values) > 1 {
		return report.Pass, fmt.Sprintf("all %d samples are %s", len(values), q.condition)
	}
	return report.Pass, fmt.Sprintf("%v is %s", values[0], q.condition)
}

// run runs the query once and returns the values of its samples.
func (q query) run(ctx context.Context) ([]float64, error) {
	form := url.Values{"query": {q.text}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, q.url.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if q.user != nil {
		password, _ := q.user.Password()
		req.SetBasicAuth(q.user.Username(), password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", q.url.Host, err)
	}
	return parseSamples(resp.Status, body)
}

// parseSamples parses a response of Prometheus's API: a vector or a scalar.
func parseSamples(status string, body []byte) ([]float64, error) {
	var answer struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   struct {
			ResultType string          `json:"resultType"`
			Result     json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("%s, and no answer of a Prometheus server", status)
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("%s: %s", status, truncate(answer.Error))
	}
	var points [][2]json.RawMessage
	switch answer.Data.ResultType {
	case "scalar":
		points = make([][2]json.RawMessage, 1)
		if err := json.Unmarshal(answer.Data.Result, &points[0]); err != nil {
			return nil, fmt.Errorf("the scalar cannot be read: %w", err)
		}
	case "vector":
		var series []struct {
			Value [2]json.RawMessage `json:"value"`
		}
		if err := json.Unmarshal(answer.Data.Result, &series); err != nil {
			return nil, fmt.Errorf("the vector cannot be read: %w", err)
		}
		for _, s := range series {
			points = append(points, s.Value)
		}
	default:
		return nil, fmt.Errorf("the query answers a %s; want a vector or a scalar", truncate(answer.Data.ResultType))
	}
	var values []float64
	for _, p := range points {
		var text string
		err := json.Unmarshal(p[1], &text)
		var v float64
		if err == nil {
			v, err = strconv.ParseFloat(text, 64)
		}
		if err != nil {
			return nil, fmt.Errorf("a sample cannot be read: %w", err)
		}
		values = append(values, v)
	}
	return values, nil
}

func truncate(s string) string {
	if len(s) > maxOutput {
		return strings.ToValidUTF8(s[:maxOutput], "?") + "…"
	}
	return s
}

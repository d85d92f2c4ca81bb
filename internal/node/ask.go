package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Ask reads the report of the daemon that serves its status at the given place.
func Ask(ctx context.Context, at Status) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true}
	host := at.Listen.String()
	if at.Socket != "" {
		host = "muster"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", at.Socket)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/status", nil)
	if err != nil {
		return Report{}, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return Report{}, err
	}
	defer resp.Body.Close()
	var report Report
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&report); err != nil {
		return Report{}, fmt.Errorf("status from %s: %w", host, err)
	}
	return report, nil
}

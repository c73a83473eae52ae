package stand

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Poster sends the contenders' requests, except those of this project's worker, which sends its own. The transport is
// configured like the worker's (package delivery), except that it keeps enough connections for everybody.
type Poster struct{ client *http.Client }

// NewPoster makes one that opens up to perEndpointMax connections to an endpoint, and keeps them.
func NewPoster(perEndpointMax int) Poster {
	return Poster{client: &http.Client{
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{}).DialContext,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: perEndpointMax,
			MaxConnsPerHost:     perEndpointMax,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes the connections that are kept.
func (p Poster) Close() { p.client.CloseIdleConnections() }

// Post sends one body, with the headers that this project's requests have, and accepts only 200. All
// contenders make the same request, so that a ratio compares only the rest of their work.
func (p Poster) Post(ctx context.Context, url string, number int64, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	h := req.Header
	h["Content-Type"] = []string{"application/json"}
	h["User-Agent"] = []string{"Epilogue"}
	h["Webhook-Id"] = []string{fmt.Sprintf("00000000-0000-7000-8000-%012x", number)}
	h["Webhook-Timestamp"] = []string{strconv.FormatInt(time.Now().Unix(), 10)}
	h["Workflow-Run-Id"] = []string{RunID(int(number))}
	h["Workflow-Run-Status"] = []string{"succeeded"}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the receiver answered %s", resp.Status)
	}
	return nil
}

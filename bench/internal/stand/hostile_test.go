package stand

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestNoHostileEndpointReturnsACompleteSuccess(t *testing.T) {
	t.Parallel()
	r, _ := inboxOf(t, 1, 2)
	urls, err := r.OpenHostile(len(hostile))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for i, url := range urls {
		answer, err := client.Post(url, "application/json", strings.NewReader("{}"))
		if err != nil {
			continue
		}
		_, err = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		if err == nil && answer.StatusCode < 300 {
			t.Errorf("way %d: the answer is complete and has the status %d, want an error or a failure", i, answer.StatusCode)
		}
	}
	if p := progressOf(t, r); p.Requests != 0 {
		t.Errorf("%d requests count as arrived, want none", p.Requests)
	}
}

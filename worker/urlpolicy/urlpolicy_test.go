package urlpolicy_test

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/worker/urlpolicy"
)

func TestAURLThatTheWorkerWouldRefuseIsRefusedAtSubmit(t *testing.T) {
	t.Parallel()
	strict := urlpolicy.Config{}
	open := urlpolicy.Config{AllowHTTP: true, AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, AllowedPorts: []uint16{443, 8443}}
	for _, c := range []struct {
		config    urlpolicy.Config
		url, want string // "" for none
	}{
		{strict, "https://shop.example/hook", ""},
		{strict, "https://8.8.8.8:9000/hook", ""},
		{strict, "http://shop.example/hook", "scheme http"},
		{strict, "HTTP://shop.example/hook", "scheme http"},
		{strict, "https://10.0.0.1/x", "not a public address"},
		{strict, "https://[::ffff:10.0.0.1]/x", "not a public address"},
		{strict, "https://localhost/x", "not a public address"},
		{strict, "https://api.localhost./x", "not a public address"},
		{strict, "https://169.254.169.254/latest", "link-local"},
		{strict, "shop.example/hook", "relative"},
		{open, "https://10.0.0.1:8443/x", ""},
		{open, "http://10.0.0.1:443/x", ""},
		{open, "http://10.0.0.1/x", "port 80"},
		{open, "https://shop.example:9000/x", "port 9000"},
		{open, "https://192.168.0.1/x", "not a public address"},
	} {
		h, err := hook.NewWebhook(hook.WebhookConfig{Policy: urlpolicy.New(c.config)})
		if err != nil {
			t.Fatal(err)
		}
		err = h.CheckHeaders(map[string]string{"callback_url": c.url})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: the URL %s: the error is %v, want %q (\"\": no error)", c.config, c.url, err, c.want)
		}
	}
}

func TestAPolicyLinksNeitherRiverNorADatabasePool(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		if strings.Contains(path, "riverqueue") || strings.Contains(path, "goose") || strings.HasSuffix(path, "pgx/v5/pgxpool") {
			t.Errorf("%s is linked, want neither River, goose nor pgxpool", path)
		}
	}
}

package hook_test

import (
	"os/exec"
	"strings"
	"testing"
)

// A service that only writes outcomes links the standard library, pgx and what pgx needs: no River, no goose, no
// metrics library.
func TestHookAndOutboxLinkPgxAndNothingElse(t *testing.T) {
	t.Parallel()
	const module = "github.com/seed-abbacb8b/epilogue/"
	allowed := map[string]bool{module + "hook": true, module + "outbox": true}
	for _, name := range []string{"callback", "cleantext", "fieldfault", "header", "httpmethod", "keyname", "lane", "nilcheck", "sqlschema", "sqlstate", "sqltime"} {
		allowed[module+"internal/"+name] = true
	}
	for _, path := range links(t, "github.com/jackc/pgx/v5") {
		allowed[path] = true
	}
	for _, path := range links(t, module+"hook", module+"outbox") {
		if !allowed[path] {
			t.Errorf("%s is linked; want pgx, what pgx links, and the packages named here only", path)
		}
	}
}

func links(t *testing.T, packages ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}"}, packages...)...)
	out, err := cmd.Output()
	must(t, err)
	paths := strings.Fields(string(out))
	if len(paths) == 0 {
		t.Fatalf("go list names no package that %v links; want some", packages)
	}
	return paths
}

package faulty

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// LeaveNamespace makes a namespace as a test leaves it that was killed, and returns its name.
func LeaveNamespace(t *testing.T) string {
	t.Helper()
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	var last error
	for range 5 { // another package's tests may sweep it while it is built
		n, err := newNamespace()
		if err != nil {
			t.Fatal(err)
		}
		id := n.Name[strings.LastIndex(n.Name, "-")+1:]
		n.Name = fmt.Sprintf("%s%d-%s", namespacePrefix, ended.Process.Pid, id)
		if last = n.build(); last == nil {
			return n.Name
		}
	}
	t.Fatal(last)
	return ""
}

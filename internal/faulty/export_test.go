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
	n, err := newNamespace()
	if err != nil {
		t.Fatal(err)
	}
	id := n.Name[strings.LastIndex(n.Name, "-")+1:]
	n.Name = fmt.Sprintf("%s%d-%s", namespacePrefix, ended.Process.Pid, id)
	if err := n.build(); err != nil {
		t.Fatal(err)
	}
	return n.Name
}

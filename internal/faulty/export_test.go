package faulty

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// LeaveNamespace makes a namespace like one that a killed test leaves behind, and returns its name.
func LeaveNamespace(t *testing.T) string {
	t.Helper()
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	var last error
	for range 5 { // the tests of another package may sweep it before it is complete
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

package logtail_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/logtail"
)

func TestEachLineIsPassedOnAndTheLastOnesAreKept(t *testing.T) {
	t.Parallel()
	var given []string
	tail := logtail.New(func(line string) { given = append(given, line) })
	write := func(text string) {
		t.Helper()
		if n, err := tail.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatalf("Write returns %d, %v; want %d", n, err, len(text))
		}
	}
	write("one\ntw")
	write("o\n")
	if want := []string{"one", "two"}; !slices.Equal(given, want) {
		t.Errorf("got the lines %q, want %q", given, want)
	}
	for i := range 100 {
		write(fmt.Sprintf("line %d\n", i))
	}
	write("the end")
	if got := tail.String(); !strings.HasPrefix(got, "    line 75\n    line 76\n") || !strings.HasSuffix(got, "\n    line 99\n    the end") {
		t.Errorf("String returns %q, want the lines 75 to 99 and the end", got)
	}
}

func TestALineWithoutAnEndIsPassedOnInParts(t *testing.T) {
	t.Parallel()
	bytes := 0
	tail := logtail.New(func(line string) { bytes += len(line) })
	for range 100 {
		if _, err := tail.Write(make([]byte, 1<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if bytes == 0 || len(tail.String()) > 128<<10 {
		t.Errorf("passed on %d bytes and kept %d, want some passed on, and 128 KiB kept at most", bytes, len(tail.String()))
	}
}

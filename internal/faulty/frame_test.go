package faulty

import (
	"bytes"
	"testing"
)

func FuzzTheFramerKeepsEveryByte(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f\x00\x00\x00\x09\x00\x03\x00\x00\x00Q\x00\x00\x00\x0dSELECT 1\x00"), 3, true)
	f.Add([]byte("NZ\x00\x00\x00\x05I"), 1, false)
	f.Add([]byte("Nd\x00\x01\x00\x20"+string(make([]byte, messageMax+28))+"Z\x00\x00\x00\x05I"), 1000, false)
	f.Add([]byte("Q\x00\x00\x00\x00"), 2, false)
	f.Fuzz(func(t *testing.T, stream []byte, chunk int, client bool) {
		fr, s := framer{phase: answer}, session{}
		if client {
			fr.phase = startup
		}
		var out []byte
		open := false
		for rest := stream; len(rest) > 0; {
			n := min(max(chunk, 1), len(rest))
			fr.add(rest[:n])
			rest = rest[n:]
			for p, ok := fr.next(); ok; p, ok = fr.next() {
				if len(p.bytes) == 0 || p.first && open || p.last && !p.first && !open {
					t.Fatalf("got the piece %+v while a message is open: %v; want a new message only after the end of the last", p, open)
				}
				open = (open || p.first) && !p.last
				out = append(out, p.bytes...)
				if p.first {
					s.sent(p.message)
				}
			}
		}
		if out = append(out, fr.rest()...); !bytes.Equal(out, stream) {
			t.Errorf("the pieces of %q are together %q, want the same bytes", stream, out)
		}
	})
}

func TestSQLIsFoundForEachMessageOfTheExtendedProtocol(t *testing.T) {
	t.Parallel()
	var s session
	for _, step := range []struct {
		kind          byte
		payload, want string
	}{
		{'P', "name\x00SELECT 1\x00\x00\x00", "SELECT 1"},
		{'D', "Sname\x00", "SELECT 1"},
		{'B', "portal\x00name\x00\x00\x00\x00\x00\x00\x00", "SELECT 1"},
		{'D', "Pportal\x00", "SELECT 1"},
		{'E', "portal\x00\x00\x00\x00\x00", "SELECT 1"},
		{'E', "unknown\x00\x00\x00\x00\x00", ""},
		{'Q', "SELECT 2\x00", "SELECT 2"},
		{'S', "", ""},
	} {
		if got := s.sent(message{step.kind, []byte(step.payload)}); got != step.want {
			t.Errorf("message %c %q: the SQL is %q, want %q", step.kind, step.payload, got, step.want)
		}
	}
	if got := string(s.executed); got != "SELECT 1\n\nSELECT 2\n" {
		t.Errorf("the SQL executed is %q, want both statements, one of them twice", got)
	}
}

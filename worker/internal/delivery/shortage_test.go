package delivery

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// shortageURLs tells the process that runs out of files where it may send to.
const shortageURLs = "EPILOGUE_TEST_SHORTAGE_URLS"

// A process of its own, because a limit on files is a process's.
func TestAShortageOfFilesIsNotAnAttempt(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	run := exec.Command(os.Args[0], "-test.run=^TestTheProcessThatRunsOutOfFiles$", "-test.v")
	run.Env = append(os.Environ(), shortageURLs+"="+to.URL)
	if out, err := run.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if n := len(to.requests()); n != 1 {
		t.Errorf("the receiver got %d requests, want the one that was sent with files to spare", n)
	}
}

func TestTheProcessThatRunsOutOfFiles(t *testing.T) {
	url := os.Getenv(shortageURLs)
	if url == "" {
		t.Skip("another test starts it")
	}
	s := newSender(t, allowing("127.0.0.1"))
	named := allowing("127.0.0.1")
	named.Resolver = newNameserver(t, always("127.0.0.1")).resolver()
	byName := newSender(t, named)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64}); err != nil {
		t.Fatal(err)
	}
	var files []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		files = append(files, f)
	}
	for what, a := range map[string]Answer{
		"an address": s.Send(t.Context(), messageTo(url)),
		"a name":     byName.Send(t.Context(), messageTo(strings.Replace(url, "127.0.0.1", "receiver.test", 1))),
	} {
		if a.Class != "" || !strings.Contains(a.WaitsFor, "too many open files") {
			t.Errorf("%s: %s", what, describe(a))
		}
	}
	for _, f := range files {
		_ = f.Close()
	}
	wantDelivered(t, "once there are files", s.Send(t.Context(), messageTo(url)))
}

func TestAShortageIsKnownByItsErrno(t *testing.T) {
	t.Parallel()
	dial := func(errno syscall.Errno, to string) error {
		addr := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(to))
		return phaseError{phaseConnect, &net.OpError{Op: "dial", Net: "tcp", Addr: addr, Err: os.NewSyscallError("connect", errno)}}
	}
	for _, errno := range shortages {
		if _, ok := shortageOf(dial(errno, "127.0.0.1:80")); !ok {
			t.Errorf("%v is not known", errno)
		}
	}
	for _, errno := range []syscall.Errno{syscall.ECONNREFUSED, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ECONNRESET, syscall.ETIMEDOUT} {
		if _, ok := shortageOf(dial(errno, "127.0.0.1:80")); ok {
			t.Errorf("%v is taken for a shortage", errno)
		}
	}
	if _, ok := shortageOf(&net.DNSError{Err: "no such host", Name: "too many open files"}); ok {
		t.Error("a name is taken for a shortage")
	}
}

// What net/http quotes of a broken answer may be the request itself, with its tokens.
func TestNoErrorQuotesTheAnswer(t *testing.T) {
	t.Parallel()
	s := newSender(t, allowing("127.0.0.1"))
	for i, answer := range []string{
		"top-secret\r\n\r\n", "HTTP/top-secret 200 OK\r\n\r\n", "HTTP/1.1 top-secret\r\n\r\n", "HTTP/1.1 200 OK\r\ntop-secret\r\n\r\n",
		"HTTP/1.1 200 OK\r\n : top-secret\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: top-secret\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: top-secret\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ntop-secret\r\n",
	} {
		a := s.Send(t.Context(), messageTo(newSocket(t, say(answer)).URL))
		if a.Class != ClassProtocol || a.Err == "" || strings.Contains(a.Err, "top-secret") {
			t.Errorf("%s: %s", fmt.Sprint(i, " ", strings.ReplaceAll(answer, "\r\n", "⏎")), describe(a))
		}
	}
}

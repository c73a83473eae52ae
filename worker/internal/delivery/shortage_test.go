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

// shortageURLs names the environment variable with the URLs for the process that runs out of files.
const shortageURLs = "EPILOGUE_TEST_SHORTAGE_URLS"

// This test needs its own process, because the limit on files holds for a whole process.
func TestAShortageOfFilesIsNotAnAttempt(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	run := exec.Command(os.Args[0], "-test.run=^TestTheProcessThatRunsOutOfFiles$", "-test.v")
	run.Env = append(os.Environ(), shortageURLs+"="+to.URL)
	if out, err := run.CombinedOutput(); err != nil {
		t.Errorf("the process failed: %v: %s", err, out)
	}
	if n := len(to.requests()); n != 1 {
		t.Errorf("the receiver got %d requests, want the one from before the limit", n)
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
			t.Errorf("%s: %s, want that the message waits for a file", what, describe(a))
		}
	}
	for _, f := range files {
		_ = f.Close()
	}
	wantDelivered(t, "once there are files", s.Send(t.Context(), messageTo(url)))
}

func TestAShortageIsRecognizedByItsErrno(t *testing.T) {
	t.Parallel()
	dial := func(errno syscall.Errno, to string) error {
		addr := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(to))
		return phaseError{phaseConnect, &net.OpError{Op: "dial", Net: "tcp", Addr: addr, Err: os.NewSyscallError("connect", errno)}}
	}
	for _, errno := range shortages {
		if _, ok := shortageOf(dial(errno, "127.0.0.1:80")); !ok {
			t.Errorf("%v is not recognized as a shortage", errno)
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

// net/http quotes a broken answer in its error. The answer may be an echo of the request, with its tokens.
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
			t.Errorf("%s: %s, want class %s and no part of the answer", fmt.Sprint(i, " ", strings.ReplaceAll(answer, "\r\n", "⏎")), describe(a), ClassProtocol)
		}
	}
}

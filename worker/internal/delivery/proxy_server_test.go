package delivery

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// egress is the proxy of one test: CONNECT or SOCKS5, with or without a user and password.
type egress struct {
	*socket
	user   string // user:password; none when empty
	answer func(target string) string

	mu     sync.Mutex
	asked  []string // the targets that the proxy was asked for
	broken func(net.Conn)
}

// tunnels is the answer function of a proxy that connects to every target.
func tunnels(string) string { return "" }

// newEgress starts a proxy of the kind http, https or socks5. If answer returns a text, the proxy sends it, as the whole
// answer to CONNECT or the whole SOCKS5 reply, and opens no tunnel.
func newEgress(t testing.TB, kind, user string, answer func(target string) string, identity *tls.Config) *egress {
	t.Helper()
	p := &egress{user: user, answer: answer}
	serve := p.connect
	if kind == "socks5" {
		serve = p.socks
	}
	p.socket = newSocket(t, func(conn net.Conn) {
		p.mu.Lock()
		broken := p.broken
		p.mu.Unlock()
		if broken != nil {
			broken(conn)
			return
		}
		if kind == "https" {
			conn = tls.Server(conn, identity)
		}
		serve(conn)
	})
	at := strings.TrimPrefix(p.URL, "http://")
	if user != "" {
		name, password, _ := strings.Cut(user, ":")
		at = url.UserPassword(name, password).String() + "@" + at
	}
	p.URL = kind + "://" + at
	return p
}

// breaks makes the proxy call how with each connection and do nothing else. With nil the proxy works again.
func (p *egress) breaks(how func(net.Conn)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = how
}

// targets returns the targets that the proxy was asked for.
func (p *egress) targets() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

func (p *egress) ask(target string) (answer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, target)
	return p.answer(target)
}

func (p *egress) connect(conn net.Conn) {
	read := bufio.NewReader(conn)
	req, err := http.ReadRequest(read)
	if err != nil {
		return
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.user))
	switch got := req.Header.Get("Proxy-Authorization"); {
	case req.Method != http.MethodConnect:
		_, _ = io.WriteString(conn, "HTTP/1.1 405 No\r\n\r\n")
		return
	case p.user != "" && got != want || p.user == "" && got != "":
		_, _ = io.WriteString(conn, "HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\n\r\n")
		return
	}
	if answer := p.ask(req.Host); answer != "" {
		_, _ = io.WriteString(conn, answer)
		return
	}
	yes := "HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n"
	if p.user != "" { // any 2xx means success (RFC 9110, section 9.3.6)
		yes = "HTTP/1.0 201 Through\r\n\r\n"
	}
	relay(conn, read, req.Host, yes, "HTTP/1.1 502 No\r\n\r\n")
}

// socks serves RFC 1928, and RFC 1929 when the proxy has a user.
func (p *egress) socks(conn net.Conn) {
	read := bufio.NewReader(conn)
	method := byte(0)
	if p.user != "" {
		method = 2
	}
	offered := take(read, int(take(read, 2)[1]))
	if !slices.Contains(offered, method) {
		_, _ = conn.Write([]byte{5, 0xff})
		return
	}
	_, _ = conn.Write([]byte{5, method})
	if p.user != "" {
		name := string(take(read, int(take(read, 2)[1])))
		password := string(take(read, int(take(read, 1)[0])))
		if name+":"+password != p.user {
			_, _ = conn.Write([]byte{1, 1})
			return
		}
		_, _ = conn.Write([]byte{1, 0})
	}
	target := socksTarget(read)
	reply := func(code byte) string { return string([]byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0}) }
	if answer := p.ask(target); answer != "" {
		_, _ = io.WriteString(conn, answer)
		return
	}
	relay(conn, read, target, reply(0), reply(5))
}

// take reads n bytes. Bytes that do not come are zero.
func take(read io.Reader, n int) []byte {
	b := make([]byte, n)
	_, _ = io.ReadFull(read, b)
	return b
}

func socksTarget(read io.Reader) string {
	switch head := take(read, 4); head[3] {
	case 1, 4:
		ip, _ := netip.AddrFromSlice(take(read, map[byte]int{1: 4, 4: 16}[head[3]]))
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(take(read, 2))).String()
	case 3:
		name := string(take(read, int(take(read, 1)[0])))
		return fmt.Sprintf("name %s:%d", name, binary.BigEndian.Uint16(take(read, 2)))
	default:
		return fmt.Sprintf("kind %d", head[3])
	}
}

// socksReply is an answer function that returns a whole SOCKS5 reply with this code.
func socksReply(code byte) func(string) string {
	return func(string) string { return string([]byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0}) }
}

// relay connects to the target, and passes bytes in both directions until one side closes. It sends yes, or no if it cannot
// connect.
func relay(conn net.Conn, read io.Reader, target, yes, no string) {
	far, err := net.Dial("tcp", target)
	if err != nil {
		_, _ = io.WriteString(conn, no)
		return
	}
	_, _ = io.WriteString(conn, yes)
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(far, read)
		_ = far.Close()
	})
	_, _ = io.Copy(conn, far)
	_, _ = far.Close(), conn.Close()
	both.Wait()
}

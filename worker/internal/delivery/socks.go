package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
)

// socksProxy speaks SOCKS5 (RFC 1928), with user and password (RFC 1929) if there is a user. golang.org/x/net/proxy is not
// used because it says only in its text whether a refusal is about the proxy or about the endpoint.
type socksProxy struct {
	proxyHop
	user *url.Userinfo // nil: no authentication
}

func newSOCKSProxy(hop proxyHop, user *url.Userinfo) (proxy, error) {
	if password, _ := user.Password(); len(user.Username()) > 255 || len(password) > 255 {
		return nil, errors.New("user or password is longer than 255 bytes, the most that SOCKS5 carries")
	}
	return socksProxy{proxyHop: hop, user: user}, nil
}

const (
	socksVersion         = 5
	socksPasswordVersion = 1
	socksNoAuth          = 0
	socksPassword        = 2
	socksConnect         = 1
	socksIPv4            = 1
	socksDomain          = 3
	socksIPv6            = 4
)

func (p socksProxy) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return p.dialThrough(ctx, func(conn net.Conn) (net.Conn, error) {
		if err := p.authenticate(conn); err != nil {
			return nil, err
		}
		tripOf(ctx).enter(phaseConnect) // the proxy has answered, so silence from now on is the endpoint's
		err := socksConnectTo(conn, to)
		if isTimeout(err) {
			err = fmt.Errorf("%w in time", errProxyRefused)
		}
		return conn, err
	})
}

// authenticate greets the proxy, and sends user and password if there is a user.
func (p socksProxy) authenticate(conn net.Conn) error {
	method := byte(socksNoAuth)
	if p.user != nil {
		method = socksPassword
	}
	if _, err := conn.Write([]byte{socksVersion, 1, method}); err != nil {
		return err
	}
	var answer [2]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return err
	}
	if answer != [2]byte{socksVersion, method} {
		return fmt.Errorf("it does not accept our way to authenticate (it answered %v)", answer)
	}
	if p.user == nil {
		return nil
	}
	name := p.user.Username()
	password, _ := p.user.Password()
	request := append([]byte{socksPasswordVersion, byte(len(name))}, name...)
	request = append(append(request, byte(len(password))), password...)
	if _, err := conn.Write(request); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return err
	}
	if answer[1] != 0 {
		return errors.New("it refused user and password")
	}
	return nil
}

// socksConnectTo asks the proxy to connect to an address, and reads its whole reply.
func socksConnectTo(conn net.Conn, to netip.AddrPort) error {
	kind := byte(socksIPv4)
	if to.Addr().Is6() {
		kind = socksIPv6
	}
	request := append([]byte{socksVersion, socksConnect, 0, kind}, to.Addr().AsSlice()...)
	request = append(request, byte(to.Port()>>8), byte(to.Port()))
	if _, err := conn.Write(request); err != nil {
		return err
	}
	var head [5]byte // version, reply, reserved, kind of the bound address, first byte of the bound address
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	if head[0] != socksVersion {
		return errors.New("it does not speak SOCKS5")
	}
	switch reply := head[1]; reply {
	case 0:
	case 3, 4, 5, 6: // network unreachable, host unreachable, connection refused, TTL expired
		return fmt.Errorf("%w: SOCKS reply %d", errProxyRefused, reply)
	default:
		return fmt.Errorf("SOCKS reply %d", reply)
	}
	// How many bytes of the bound address follow the first one. A domain's first byte is its length.
	more, known := map[byte]int{socksIPv4: 4 - 1, socksIPv6: 16 - 1, socksDomain: int(head[4])}[head[3]]
	if !known {
		return fmt.Errorf("it answered with an address of kind %d", head[3])
	}
	const portBytes = 2
	_, err := io.CopyN(io.Discard, conn, int64(more)+portBytes)
	return err
}

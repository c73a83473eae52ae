package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"strconv"
	"sync"
	"time"
)

// Keys are the keys of a sender, which signs with all of them, or of a receiver, which accepts any of them. During a rotation
// they hold the new key and the old one.
type Keys []Key

// The versions of signatures, with the comma that follows them in the header.
const (
	versionHMAC    = "v1,"
	versionEd25519 = "v1a,"
)

// signatureChars is the longest signature in the header, the space before it included.
const signatureChars = len(" "+versionEd25519) + (ed25519.SignatureSize+2)/3*4

// Sign returns the value of the webhook-signature header: the signature of every key that can sign, in order, over
// exactly id, ".", at in whole seconds since 1970, ".", body. The request must carry that id as webhook-id, those
// seconds as webhook-timestamp ([Timestamp]), and the same bytes.
//
// It returns "" when no key can sign, and when [CheckID] refuses the id. Such a message must not be sent: it would be unsigned.
func (ks Keys) Sign(id string, at time.Time, body []byte) string {
	if CheckID(id) != nil {
		return ""
	}
	c := content{head: appendHead(nil, id, Timestamp(at)), body: body}
	header := make([]byte, 0, len(ks)*signatureChars)
	for _, k := range ks {
		if !k.CanSign() {
			continue
		}
		if len(header) > 0 {
			header = append(header, ' ')
		}
		header = k.material().appendSignature(header, &c)
	}
	return string(header)
}

// CanSign reports whether at least one key can sign.
func (ks Keys) CanSign() bool {
	for _, k := range ks {
		if k.CanSign() {
			return true
		}
	}
	return false
}

// Timestamp returns the value of the webhook-timestamp header: whole seconds since 1970.
func Timestamp(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }

// content is what is signed: head and body, one after the other.
type content struct {
	head, body []byte
	joined     []byte
}

func appendHead(b []byte, id, timestamp string) []byte {
	b = append(b, id...)
	b = append(b, '.')
	b = append(b, timestamp...)
	return append(b, '.')
}

// whole joins the two, once. Ed25519 reads its message twice, and needs it in one piece.
func (c *content) whole() []byte {
	if c.joined == nil {
		c.joined = make([]byte, 0, len(c.head)+len(c.body))
		c.joined = append(append(c.joined, c.head...), c.body...)
	}
	return c.joined
}

func (m *material) appendSignature(header []byte, c *content) []byte {
	if m.kind == HMAC {
		mac := m.macs.sum(c)
		return base64.StdEncoding.AppendEncode(append(header, versionHMAC...), mac[:])
	}
	signature := ed25519.Sign(m.private, c.whole())
	return base64.StdEncoding.AppendEncode(append(header, versionEd25519...), signature)
}

// macs are HMAC states of one key, reused because deriving them from the key is the expensive part.
type macs struct{ pool *sync.Pool }

func newMACs(secret []byte) macs {
	return macs{&sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }}}
}

func (m macs) sum(c *content) (mac [sha256.Size]byte) {
	h := m.pool.Get().(hash.Hash)
	h.Reset()
	_, _ = h.Write(c.head) // a hash never fails
	_, _ = h.Write(c.body)
	h.Sum(mac[:0])
	m.pool.Put(h)
	return mac
}

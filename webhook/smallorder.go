package webhook

import "encoding/hex"

// smallOrderPoints are the encodings, without the sign bit, of the points of Ed25519 whose order divides the cofactor
// 8; the last two are encodings of 0 and 1 that are not reduced. It is the list of libsodium and of "Taming the many
// EdDSAs" (Chalkias, Garillot, Nikolaenko, 2020), table 1. A test shows that each accepts a forgery.
var smallOrderPoints = [...]string{
	"0000000000000000000000000000000000000000000000000000000000000000", // order 4: what an empty placeholder decodes to
	"0100000000000000000000000000000000000000000000000000000000000000", // order 1
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", // order 8
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 2
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 4
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 1
}

func smallOrder(public []byte) bool {
	y := append([]byte(nil), public...)
	y[len(y)-1] &= 0x7f
	text := hex.EncodeToString(y)
	for _, point := range smallOrderPoints {
		if text == point {
			return true
		}
	}
	return false
}

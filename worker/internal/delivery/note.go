package delivery

import (
	"fmt"
	"strings"
)

// headerNote is what an attempt notes about headers that were left out of the request, or changed. It never quotes a value, because a
// value may be a secret.
type headerNote struct{ leftOut, trimmed []string }

// trim returns a value without its outer white space, which HTTP does not carry (RFC 9110, section 5.5).
func (n *headerNote) trim(key, value string) string {
	trimmed := strings.Trim(value, " \t")
	if trimmed != value {
		n.trimmed = append(n.trimmed, fmt.Sprintf("header %q", key))
	}
	return trimmed
}

// noteBytesMax bounds a note; a submitter may name any number of headers.
const noteBytesMax = 8192

func (n *headerNote) String() string {
	text := listed("", "left out: ", n.leftOut)
	return listed(text, "outer white space trimmed, which HTTP cannot carry: ", n.trimmed)
}

// listed appends a list with its heading to a text that a column can hold.
func listed(text, heading string, list []string) string {
	for i, each := range list {
		if len(text)+len(each) > noteBytesMax {
			return fmt.Sprintf("%s and %d more", text, len(list)-i)
		}
		switch {
		case i > 0, text != "":
			text += "; "
		}
		if i == 0 {
			text += heading
		}
		text += shortText(each)
	}
	return text
}

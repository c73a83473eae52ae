package main

import (
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/session"
)

// decodeError is a fault in the text of a variable. Its text follows the name of the variable.
type decodeError string

func (e decodeError) Error() string { return string(e) }

func decodef(format string, args ...any) error { return decodeError(fmt.Sprintf(format, args...)) }

// adminAddr is HOST:PORT, or "off".
type adminAddr string

const adminOff adminAddr = "off"

// EnvDecode checks the form only; listening shows whether the address can be used.
func (a *adminAddr) EnvDecode(text string) error {
	*a = adminAddr(text)
	if *a == adminOff || text == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(text)
	if n, portErr := strconv.Atoi(port); err != nil || portErr != nil || n < 0 || n > 65535 {
		return decodef("is %.64q; want HOST:PORT like 127.0.0.1:9464, :9464 for every address, or off", text)
	}
	return nil
}

// pooler is a session.Pooler; empty means session.Auto.
type pooler string

// EnvDecode refuses other words.
func (o *pooler) EnvDecode(text string) error {
	if text == "" {
		return nil
	}
	var known []string
	for _, word := range session.Poolers {
		known = append(known, string(word))
	}
	return decodeOneOf(o, text, known)
}

type logLevel string

// EnvDecode refuses other levels.
func (l *logLevel) EnvDecode(text string) error { return decodeOneOf(l, text, logLevels()) }

func logLevels() []string { return []string{"debug", "info", "warn", "error"} }

func (l logLevel) slog() slog.Level {
	return slog.LevelDebug + slog.Level(4*max(0, slices.Index(logLevels(), string(l)))) // they are 4 apart
}

type logFormat string

const logJSON logFormat = "json"

// EnvDecode refuses other formats.
func (f *logFormat) EnvDecode(text string) error {
	return decodeOneOf(f, text, []string{"text", "json"})
}

func decodeOneOf[T ~string](to *T, text string, known []string) error {
	word := strings.ToLower(strings.TrimSpace(text))
	if !slices.Contains(known, word) {
		return decodef("is %.64q; want one of %s%s", text, strings.Join(known, ", "), didYouMean(word, known))
	}
	*to = T(word)
	return nil
}

// valueText writes a setting as its variable would hold it, without secrets.
func valueText(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case time.Duration:
		return plainDuration(value)
	case *float64:
		if value == nil {
			return ""
		}
		return strconv.FormatFloat(*value, 'g', -1, 64)
	case fmt.Stringer:
		return value.String()
	default:
		return fmt.Sprint(value)
	}
}

// Package nilcheck finds a nil that a caller passed by mistake.
package nilcheck

import "reflect"

// Is also finds a nil pointer in an interface, such as the nil *pgxpool.Tx that a function returned beside an error.
func Is(value any) bool {
	if value == nil {
		return true
	}
	v := reflect.ValueOf(value)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

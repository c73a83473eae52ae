package main

import (
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/leakcheck"
)

func TestMain(m *testing.M) { leakcheck.Main(m) }

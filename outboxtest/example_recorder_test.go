package outboxtest_test

import (
	"context"
	"fmt"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outboxtest"
)

// A Recorder shows, without a database, which outcomes the service passes to its hook.
func ExampleRecorder() {
	var recorder outboxtest.Recorder
	service := func(terminal hook.TerminalHook) error {
		return terminal.OnTermination(context.Background(), nil, outbox.RunOutcome{RunID: "order-4711", Status: outbox.Failed, Error: "out of stock"})
	}
	if err := service(&recorder); err != nil {
		fmt.Println(err)
	}
	for _, outcome := range recorder.Of("order-4711") {
		fmt.Println(outcome.Status, outcome.Error)
	}
	// Output: failed out of stock
}

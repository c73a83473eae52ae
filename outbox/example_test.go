package outbox_test

import (
	"fmt"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// The endpoint is the origin of the URL: the unit of fairness, health and limits.
func ExampleCheckURL() {
	fmt.Println(outbox.CheckURL("HTTPS://Shop.Example:443/hooks?token=abc"))
	fmt.Println(outbox.CheckURL("https://user:password@shop.example/hooks"))
	// Output:
	// https://shop.example <nil>
	//  url: holds a user name or password; put credentials into a header or the query
}

func ExampleRunOutcome_Validate() {
	outcome := outbox.RunOutcome{RunID: "order-4711", Status: outbox.Failed, Result: []byte("half a result")}
	fmt.Println(outcome.Validate())
	// Output: invalid outcome: Result is set on a failed run; only a succeeded one has a result
}

package testdb

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
)

// Cluster is a primary and its standby, on servers of their own. Its methods are for one goroutine at a time.
type Cluster struct {
	Primary *throwaway.Server // writable
	Standby *throwaway.Server // follows the primary, read-only; after Failover: crashed, until Rejoin or Demote

	synchronous bool
}

const clusterStepMax = 2 * time.Minute // for one step of a cluster

// NewCluster returns a cluster that ends with the test. If synchronous, a commit waits until the standby has it.
func NewCluster(t testing.TB, synchronous bool) *Cluster {
	t.Helper()
	c := &Cluster{Primary: OwnServer(t), synchronous: synchronous}
	ctx, cancel := clusterStep()
	defer cancel()
	standby, err := c.Primary.StartStandby(ctx, t.Logf)
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	c.Standby = standby
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("testdb: the log of the primary: %s\nof the standby: %s", c.Primary.LogTail(), c.Standby.LogTail())
		}
		if err := standby.Stop(); err != nil {
			t.Errorf("testdb: %v", err)
		}
	})
	c.follow(ctx, t)
	return c
}

// URL returns an address with both servers, the present primary first. Settings, like
// "target_session_attrs=read-write", are added to it.
func (c *Cluster) URL(t testing.TB, settings ...string) string {
	t.Helper()
	first, errFirst := url.Parse(c.Primary.URL())
	second, errSecond := url.Parse(c.Standby.URL())
	if errFirst != nil || errSecond != nil {
		t.Fatalf("testdb: %v, %v", errFirst, errSecond)
	}
	both := fmt.Sprintf("postgres://postgres@%s,%s/postgres?sslmode=disable", first.Host, second.Host)
	for _, setting := range settings {
		both += "&" + setting
	}
	return both
}

// Failover crashes the primary and promotes the standby; the two then change places in the Cluster. Without synchronous
// replication, the commits that the standby did not have yet are lost.
func (c *Cluster) Failover(t testing.TB) {
	t.Helper()
	ctx, cancel := clusterStep()
	defer cancel()
	if err := c.Primary.Crash(); err != nil {
		t.Fatalf("testdb: %v", err)
	}
	if err := c.Standby.Promote(ctx); err != nil {
		t.Fatalf("testdb: %v", err)
	}
	c.Primary, c.Standby = c.Standby, c.Primary
}

// Rejoin makes the old primary follow the new one, after a Failover.
func (c *Cluster) Rejoin(t testing.TB) {
	t.Helper()
	ctx, cancel := clusterStep()
	defer cancel()
	if err := c.Standby.Follow(ctx, c.Primary); err != nil {
		t.Fatalf("testdb: %v", err)
	}
	c.follow(ctx, t)
}

// follow waits until the standby follows, and makes it synchronous if the cluster is.
func (c *Cluster) follow(ctx context.Context, t testing.TB) {
	t.Helper()
	err := c.Primary.WaitReplicated(ctx)
	if err == nil && c.synchronous {
		err = c.Primary.SetSynchronous(ctx, true)
	}
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
}

// clusterStep returns a context that does not end with the test's, so that the end of the test is not taken for a failure of
// the step.
func clusterStep() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), clusterStepMax)
}

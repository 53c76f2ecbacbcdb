package etcdtest_test

import (
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/helve-serve/helve/internal/store"
	"github.com/helve-serve/helve/internal/store/etcdtest"
	"github.com/helve-serve/helve/internal/store/storetest"
)

// TestEtcd runs the conformance tests on one etcd server in this process. Each test has a prefix of its own.
func TestEtcd(t *testing.T) {
	client := server(t)
	var tests atomic.Int64
	storetest.Run(t, storetest.Subject{
		Open: func(*testing.T) store.Store { return etcdtest.New(client, fmt.Sprintf("test%d/", tests.Add(1))) },
		Compact: func(t *testing.T, _ store.Store, revision int64) {
			t.Helper()
			if _, err := client.Compact(t.Context(), revision); err != nil {
				t.Fatal(err)
			}
		},
		Lease: 10 * time.Second, // all that is done under it takes no longer on a busy machine
	})
}

func server(t *testing.T) *clientv3.Client {
	t.Helper()
	c := embed.NewConfig()
	c.Dir, c.LogLevel, c.UnsafeNoFsync = t.TempDir(), "panic", true
	c.TickMs, c.ElectionMs = 10, 100
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	local := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.ListenClientUrls, c.AdvertiseClientUrls, c.ListenPeerUrls, c.AdvertisePeerUrls = local, local, local, local
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		t.Fatal(err)
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{e.Clients[0].Addr().String()}, Logger: zap.NewNop(), DialTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

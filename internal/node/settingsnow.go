package node

import (
	"os"

	"github.com/helve-serve/helve/helvetype"
)

// SettingsNow has the settings of the node as they hold now: its listeners and options of HTTP, its store, keeper and process.
func (n *Node) SettingsNow() (s helvetype.Settings) {
	o := n.proxy.Options()
	s.HTTP.URLs = append([]string{}, n.URLs()...)
	s.HTTP.Options = helvetype.HTTPInEffect{RequestTimeout: o.RequestTimeout.Seconds(), RootPath: o.RootPath, KeepAlive: n.proxy.IdleTime().Seconds(), TLS: n.secure != nil}
	s.Store = helvetype.StoreSettings{Kind: "memory", Dir: n.state}
	if n.disk != nil {
		d := n.disk.Stats()
		s.Store.Kind, s.Store.Bytes, s.Store.Writes, s.Store.Syncs = "disk", n.disk.Size(), uint64(d.Writes+d.BlobsPut), uint64(d.Syncs+d.BlobSyncs)
		if err := n.disk.Failing(); err != nil {
			s.Store.Failing = err.Error()
		}
	}
	s.Keeper = n.keeper
	s.Node = helvetype.ProcessSettings{PID: os.Getpid(), Version: n.set.Version}
	return s
}

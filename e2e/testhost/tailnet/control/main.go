// Program control is the control server of a tailnet for tests: Tailscale's own test server, with a DERP server beside it. All
// nodes may join. A request for /approve approves the routes of all nodes so far.
package main

import (
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"

	"tailscale.com/derp/derpserver"
	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: control ADDRESS")
	}
	address := os.Args[1]
	relay, err := serveDERP(address)
	if err != nil {
		log.Fatal(err)
	}
	control := &testcontrol.Server{
		DERPMap: relay, ExplicitBaseURL: "http://" + net.JoinHostPort(address, "9911"), AllOnline: true, AllNodesSameUser: true,
	}
	mux := http.NewServeMux()
	mux.Handle("/", control)
	mux.HandleFunc("/approve", func(w http.ResponseWriter, _ *http.Request) {
		for _, n := range control.AllNodes() {
			routes := n.Hostinfo.RoutableIPs().AsSlice()
			control.SetSubnetRoutes(n.Key, routes)
			fmt.Fprintln(w, n.Name, n.Addresses, routes)
		}
	})
	log.Fatal(http.ListenAndServe(net.JoinHostPort(address, "9911"), mux))
}

// serveDERP starts a DERP server, and returns the map of the server alone.
func serveDERP(address string) (*tailcfg.DERPMap, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return nil, err
	}
	s := httptest.NewUnstartedServer(derpserver.Handler(derpserver.New(key.NewNode(), logger.Discard)))
	s.Listener.Close()
	s.Listener = l
	s.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){} // no HTTP/2
	s.StartTLS()
	node := &tailcfg.DERPNode{
		Name: "1", RegionID: 1, HostName: address, IPv4: address, IPv6: "none", DERPPort: l.Addr().(*net.TCPAddr).Port,
		STUNPort: -1, InsecureForTests: true,
	}
	region := &tailcfg.DERPRegion{RegionID: 1, RegionCode: "test", Nodes: []*tailcfg.DERPNode{node}}
	return &tailcfg.DERPMap{Regions: map[int]*tailcfg.DERPRegion{1: region}}, nil
}

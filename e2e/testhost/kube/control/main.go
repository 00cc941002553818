// Program control is the API server of Kubernetes with an etcd in the same process. Its first argument is a directory for the data of
// etcd, the others are those of kube-apiserver.
package main

import (
	"log"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: control DIR ARG...")
	}
	c := embed.NewConfig() // on 127.0.0.1
	c.Dir, c.LogLevel = os.Args[1], "error"
	e, err := embed.StartEtcd(c)
	if err != nil {
		log.Fatal(err)
	}
	<-e.Server.ReadyNotify()
	cmd := app.NewAPIServerCommand()
	cmd.SetArgs(append(os.Args[2:], "--etcd-servers="+c.ListenClientUrls[0].String()))
	os.Exit(cli.Run(cmd))
}

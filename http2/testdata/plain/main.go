// Command plain is a plain Go HTTP/2 server without the package http2. It logs the address
// that it listens on as Caddy does.
package main

import (
	"log"
	"net"

	"golang.org/x/net/http2"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	log.Printf(`"actual_address":%q`, listener.Addr())
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go new(http2.Server).ServeConn(conn, nil)
	}
}

package caddywebsocket_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/seed-21dbdb71/caddy-websocket"
)

// A program that embeds Caddy imports this package beside Caddy's standard modules
// and adapts a Caddyfile to JSON, which caddy.Load then runs. Programs can also load
// JSON of their own.
func ExampleHandler() {
	const caddyfile = `
		:8080 {
			websocket passthrough {
				keepalive 30s
				allowed_origins self
			}
			reverse_proxy localhost:3000
		}
	`
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		log.Fatal(err)
	}
	// To serve it: err = caddy.Load(config, false)
	var indented bytes.Buffer
	if err := json.Indent(&indented, config, "", "  "); err != nil {
		log.Fatal(err)
	}
	fmt.Println(indented.String())

	// Output:
	// {
	//   "apps": {
	//     "http": {
	//       "servers": {
	//         "srv0": {
	//           "listen": [
	//             ":8080"
	//           ],
	//           "routes": [
	//             {
	//               "handle": [
	//                 {
	//                   "allowed_origins": [
	//                     "self"
	//                   ],
	//                   "handler": "websocket",
	//                   "keepalive_interval": 30000000000,
	//                   "mode": "passthrough"
	//                 },
	//                 {
	//                   "handler": "reverse_proxy",
	//                   "upstreams": [
	//                     {
	//                       "dial": "localhost:3000"
	//                     }
	//                   ]
	//                 }
	//               ]
	//             }
	//           ]
	//         }
	//       }
	//     }
	//   }
	// }
}

package main

import (
	"io"
	"net/http"
	"sync"

	coderws "github.com/coder/websocket"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/gorilla/websocket"
	"github.com/lxzan/gws"
)

// Any error ends a socket. Errors are not reported, and those of closing are ignored.

func gorillaTextbook(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{}
	c, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	for {
		kind, message, err := c.ReadMessage()
		if err != nil || c.WriteMessage(kind, message) != nil {
			return
		}
	}
}

// tunedUpgrader has large buffers. Write buffers are pooled, so idle sockets hold none.
var tunedUpgrader = websocket.Upgrader{
	ReadBufferSize:  16 << 10,
	WriteBufferSize: 64 << 10,
	WriteBufferPool: new(sync.Pool),
}

func gorillaTuned(w http.ResponseWriter, r *http.Request) {
	c, err := tunedUpgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	for {
		kind, in, err := c.NextReader()
		if err != nil {
			return
		}
		out, err := c.NextWriter(kind)
		if err != nil {
			return
		}
		if _, err := io.Copy(out, in); err != nil || out.Close() != nil {
			return
		}
	}
}

func coder(w http.ResponseWriter, r *http.Request) {
	c, err := coderws.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(-1)
	for {
		kind, message, err := c.Read(r.Context())
		if err != nil || c.Write(r.Context(), kind, message) != nil {
			return
		}
	}
}

type gwsEcho struct{ gws.BuiltinEventHandler }

func (*gwsEcho) OnMessage(c *gws.Conn, message *gws.Message) {
	_ = c.WriteMessage(message.Opcode, message.Bytes())
	_ = message.Close()
}

func gwsTextbook() http.HandlerFunc {
	upgrader := gws.NewUpgrader(new(gwsEcho), &gws.ServerOption{CheckUtf8Enabled: true})
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r)
		if err != nil {
			return
		}
		go c.ReadLoop() // the handler returns, so that the request can be freed
	}
}

func gobwas(w http.ResponseWriter, r *http.Request) {
	c, _, _, err := ws.UpgradeHTTP(r, w)
	if err != nil {
		return
	}
	go func() { // as above
		defer func() { _ = c.Close() }()
		for {
			message, opcode, err := wsutil.ReadClientData(c)
			if err != nil || wsutil.WriteServerMessage(c, opcode, message) != nil {
				return
			}
		}
	}()
}

package caddywebsocket

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// Closings for the whole fleet travel through the storage that Caddy is configured with,
// which a cluster shares for its certificates. Each is a key there, closingsPath/<id>, with
// the parameters of the request as its value. A node that has carried one out leaves a mark
// beside it, closingsPath/<id>.<node>, so that it doesn't do so again when it was restarted.
const (
	closingsPath = "websocket/closings"

	// fleetPoll is how often the storage is looked at while sockets are open.
	fleetPoll = 2 * time.Second
	// fleetExpiry is how old a closing may be when a node that was away carries it out.
	fleetExpiry = time.Minute
	// fleetSkew is by how much the clocks of two nodes may differ. A socket that began
	// this long after a closing was asked for is not meant by it.
	fleetSkew = 10 * time.Second
	// fleetTimeout is how long the storage may take.
	fleetTimeout = 5 * time.Second
)

// carriedOut are the closings that this process has carried out, or has asked for.
var carriedOut = claims{until: make(map[string]time.Time)}

// claims are the IDs of closings that need not be looked at again.
type claims struct {
	mu    sync.Mutex           // guards until
	until map[string]time.Time // when the storage has forgotten them, too
}

// claim reports whether nobody has claimed id before. Two configs may look at the same time.
func (c *claims) claim(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.until, func(_ string, until time.Time) bool { return time.Now().After(until) })
	if _, claimed := c.until[id]; claimed {
		return false
	}
	c.until[id] = time.Now().Add(2 * (fleetExpiry + fleetSkew))
	return true
}

// newClosingID returns an ID that tells when the closing was asked for.
func newClosingID() string { return fmt.Sprintf("%d-%s", time.Now().UnixMilli(), rand.Text()) }

// closingTime returns when a closing was asked for. It is not ok if id isn't one.
func closingTime(id string) (asked time.Time, ok bool) {
	millis, _, ok := strings.Cut(id, "-")
	if !ok {
		return time.Time{}, false
	}
	n, err := strconv.ParseInt(millis, 10, 64)
	return time.UnixMilli(n), err == nil
}

// A fleet is what a config has to do with the other nodes that share its storage.
type fleet struct {
	ctx     caddy.Context
	storage certmagic.Storage
	logger  *zap.Logger
	failing bool // the last look at the storage failed
}

// publish has all nodes carry out a closing. Nothing has changed if it fails.
func (f *fleet) publish(ctx context.Context, query url.Values) error {
	ctx, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	id := newClosingID()
	carriedOut.claim(id)
	if err := f.storage.Store(ctx, closingsPath+"/"+id, []byte(query.Encode())); err != nil {
		return fmt.Errorf("storing the closing for the fleet: %w", err)
	}
	f.mark(ctx, id)
	return nil
}

// mark notes in the storage that this node has carried out a closing.
func (f *fleet) mark(ctx context.Context, id string) {
	if err := f.storage.Store(ctx, closingsPath+"/"+id+"."+f.node(), []byte{'1'}); err != nil {
		f.logger.Warn("noting that a closing was carried out", zap.String("id", id), zap.Error(err))
	}
}

// run carries out the closings of other nodes until ctx is canceled.
func (f *fleet) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(fleetPoll):
		}
		if sessions.open() > 0 {
			f.look(ctx)
		}
	}
}

// look carries out the closings that are in the storage and removes those that have expired.
func (f *fleet) look(ctx context.Context) {
	defer f.contain()
	ctx, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	keys, err := f.storage.List(ctx, closingsPath, false)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil && !f.failing && ctx.Err() == nil {
		f.logger.Error("looking for closings of the fleet", zap.Error(err))
	}
	f.failing = err != nil
	names := make(map[string]bool)
	for _, key := range keys {
		names[key[strings.LastIndex(key, "/")+1:]] = true
	}
	node := ""
	if len(names) > 0 {
		node = f.node()
	}
	for name := range names {
		id, _, isMark := strings.Cut(name, ".")
		asked, ok := closingTime(id)
		switch age := time.Since(asked); {
		case !ok:
		case age > 2*fleetExpiry:
			if err := f.storage.Delete(ctx, closingsPath+"/"+name); err != nil {
				f.logger.Warn("removing an old closing of the fleet", zap.String("id", id), zap.Error(err))
			}
		case age > fleetExpiry, isMark, names[id+"."+node]:
		case carriedOut.claim(id):
			f.carryOut(ctx, id, asked)
		}
	}
}

// carryOut carries out one closing. It is marked first: if this process ends in between, so do
// its sockets.
func (f *fleet) carryOut(ctx context.Context, id string, asked time.Time) {
	value, err := f.storage.Load(ctx, closingsPath+"/"+id)
	var c closing
	if err == nil {
		c, err = readClosing(string(value))
	}
	if err != nil {
		f.logger.Error("carrying out a closing of the fleet", zap.String("id", id), zap.Error(err))
		return
	}
	f.mark(ctx, id)
	n := c.carryOut(func(s *session) bool { return s.began().Before(asked.Add(fleetSkew)) })
	f.logger.Info("carried out a closing of the fleet", zap.String("id", id), zap.Int("closing", n))
}

// contain keeps a panic of a storage module from ending the process.
func (f *fleet) contain() {
	if panicked := recover(); panicked != nil {
		f.logger.Error("panic while looking for closings of the fleet", zap.Any("panic", panicked), zap.Stack("stack"))
	}
}

// newFleet returns the fleet of a config.
func newFleet(ctx caddy.Context) *fleet {
	return &fleet{ctx: ctx, storage: ctx.Storage(), logger: ctx.Logger()}
}

// node returns the name that tells this Caddy from others, also from one on the same machine,
// and that is the same when it is restarted. It is asked for when it is needed: while Caddy
// starts for the first time, its instance ID may yet change.
func (f *fleet) node() string {
	var listen []string
	if http := httpApp(f.ctx); http != nil {
		for _, srv := range http.Servers {
			listen = append(listen, srv.Listen...)
		}
	}
	slices.Sort(listen)
	instance, err := caddy.InstanceID()
	if err != nil {
		f.logger.Warn("a restarted Caddy may carry out a closing of the fleet again", zap.Error(err))
	}
	sum := sha256.Sum256(fmt.Append(nil, instance, listen))
	return hex.EncodeToString(sum[:8])
}

package caddywebsocket

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"weak"

	"go.uber.org/zap"
)

// warned knows the warnings of the loaded configs.
var warned = warnings{given: make(map[string][]weak.Pointer[Handler])}

// warnings are those about handlers, of which the same one may be in several servers of
// a config, and in the next config again. Each warning is logged once for all of them.
type warnings struct {
	mu    sync.Mutex // guards given
	given map[string][]weak.Pointer[Handler]
}

// warn logs a warning about the handler's config, unless it was logged for the same
// config of a handler that is still loaded.
func (h *Handler) warn(message string, fields ...zap.Field) {
	config, err := json.Marshal(h)
	if err != nil || warned.add(fmt.Sprint(message, fields, string(config)), h) {
		h.logger.Warn(message, fields...)
	}
}

// add notes that a warning is due for h and reports whether it is the first handler
// that is loaded of those.
func (w *warnings) add(warning string, h *Handler) (first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.given, func(warning string, handlers []weak.Pointer[Handler]) bool {
		w.given[warning] = slices.DeleteFunc(handlers, func(p weak.Pointer[Handler]) bool {
			h := p.Value()
			return h == nil || h.ctx.Err() != nil
		})
		return len(w.given[warning]) == 0
	})
	first = len(w.given[warning]) == 0
	w.given[warning] = append(w.given[warning], weak.Make(h))
	return first
}

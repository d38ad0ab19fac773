// Package ws reads, writes and follows WebSocket frames (RFC 6455 §5), and parses the
// lists in the header of a handshake.
//
// A [Reader] parses the frames that a client sends, a [Writer] writes frames to
// either peer from several goroutines, and a [Scanner] follows frames that are
// passed through unchanged. A [Keepalive] decides when a silent client is sent a
// Ping and when it counts as dead. Buffers are pooled, and none is held while a
// socket is idle.
//
// The package does not depend on Caddy.
package ws

package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// A table has a row for each server and a column for each load, one for
// handshakes, and two for idle sockets.
type table struct {
	plan   plan
	cert   certificate
	peers  []peer
	loads  []*load
	cells  map[string]map[string]*cell   // by column and server
	memory map[string]map[string]float64 // bytes per idle socket, by column and server
	idle   []*client                     // idle sockets that are open
}

const handshakeColumn = "handshake"

// idleColumns are the columns for idle sockets, and over what these come. On HTTP/2 and
// HTTP/3 they share a connection.
var idleColumns = []struct {
	name string
	over transport
}{
	{"idle socket", overTCP},
	{"idle, TLS", overTLS},
	{"idle, HTTP/2", overHTTP2},
	{"idle, HTTP/3", overHTTP3},
}

func newTable(peers []peer, cert certificate, p plan) *table {
	t := &table{plan: p, cert: cert, peers: peers, cells: map[string]map[string]*cell{}, memory: map[string]map[string]float64{}}
	for _, l := range newLoads() {
		if p.loads.MatchString(l.name) {
			t.loads = append(t.loads, l)
		}
	}
	return t
}

// measure fills the table.
func (t *table) measure() error {
	for _, secure := range []bool{false, true} {
		if err := t.measureBusy(secure); err != nil {
			return err
		}
	}
	for _, column := range idleColumns {
		if !t.plan.loads.MatchString(column.name) {
			continue
		}
		fmt.Fprintln(os.Stderr, column.name)
		t.memory[column.name] = map[string]float64{}
		for i := range t.peers {
			p := &t.peers[i]
			if !slices.Contains(p.over, column.over) {
				continue
			}
			var err error
			if t.memory[column.name][p.name], err = t.measureIdle(p, column.over); err != nil {
				return err
			}
		}
	}
	return nil
}

// measureBusy measures loads and handshakes, with all servers running at once.
func (t *table) measureBusy(secure bool) error {
	var servers []*server
	for i := range t.peers {
		if p := &t.peers[i]; len(p.over) > 1 || !secure {
			s, err := t.start(p, secure)
			if err != nil {
				return err
			}
			defer s.running.stop()
			servers = append(servers, s)
		}
	}
	for _, l := range t.loads {
		if (l.over != overTCP) != secure {
			continue
		}
		if err := t.measureLoad(thatServe(servers, l.over), l); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	if secure || !t.plan.loads.MatchString(handshakeColumn) {
		return nil
	}
	return t.measureHandshakes(servers)
}

func thatServe(servers []*server, over transport) []*server {
	return slices.DeleteFunc(slices.Clone(servers), func(s *server) bool { return !slices.Contains(s.over, over) })
}

// column adds a column to the table and returns its cells.
func (t *table) column(name string, servers []*server) []*cell {
	cells := make([]*cell, len(servers))
	t.cells[name] = map[string]*cell{}
	for i, s := range servers {
		cells[i] = new(cell)
		t.cells[name][s.name] = cells[i]
	}
	return cells
}

// print prints the table in two parts: the columns of HTTP/1.1, and those of HTTP/2 and
// HTTP/3.
func (t *table) print(w io.Writer) {
	t.printPart(w, overTCP, overTLS)
	t.printPart(w, overHTTP2, overHTTP3)
	t.printNoise(w)
}

// printPart prints the columns of what came over the given transports, and the rows of the
// servers that have an entry in one of them.
func (t *table) printPart(w io.Writer, over ...transport) {
	var columns []string
	for _, l := range t.loads {
		if slices.Contains(over, l.over) {
			columns = append(columns, l.name)
		}
	}
	if slices.Contains(over, overTCP) {
		columns = append(columns, handshakeColumn)
	}
	for _, c := range idleColumns {
		if slices.Contains(over, c.over) {
			columns = append(columns, c.name)
		}
	}
	columns = slices.DeleteFunc(columns, func(c string) bool { return t.cells[c] == nil && t.memory[c] == nil })
	if len(columns) == 0 {
		return
	}
	fmt.Fprintf(w, "| | %s |\n|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---:|", len(columns)))
	for _, g := range groups {
		fmt.Fprintf(w, "| **%s** |%s\n", g.name, strings.Repeat(" |", len(columns)))
		for i := range t.peers {
			t.printRow(w, &t.peers[i], columns, g)
		}
	}
	fmt.Fprintln(w)
}

// printRow prints the entries of a server, unless it has none.
func (t *table) printRow(w io.Writer, p *peer, columns []string, g *group) {
	var row strings.Builder
	empty := true
	for _, column := range columns {
		entry := t.entry(column, p, g)
		empty = empty && entry == ""
		fmt.Fprintf(&row, " %s |", cmp.Or(entry, "-"))
	}
	if !empty {
		fmt.Fprintf(w, "| %s |%s\n", p.name, row.String())
	}
}

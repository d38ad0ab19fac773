const NEWEST = 1 << 16; // samples that percentiles are of
const BIN = 100; // ms
const BINS = 300;

// Latency keeps round-trip times: the newest for percentiles, those of the last
// half minute in bins to draw.
export class Latency {
  #samples = new Float64Array(NEWEST);
  #bins = new Map(); // by number: the time in units of BIN
  #summary = null;
  count = 0;

  static SPAN = BIN * BINS;

  add(now, rtt) {
    this.#samples[this.count++ % NEWEST] = rtt;
    this.#summary = null;
    const number = Math.floor(now / BIN);
    const bin = this.#bins.get(number);
    if (bin) {
      bin.least = Math.min(bin.least, rtt);
      bin.most = Math.max(bin.most, rtt);
      bin.sum += rtt;
      bin.count++;
    } else {
      this.#bins.set(number, { least: rtt, most: rtt, sum: rtt, count: 1 });
    }
  }

  // summary is null before the first sample.
  summary() {
    if (this.count === 0) {
      return null;
    }
    if (!this.#summary) {
      const sorted = this.#samples.slice(0, Math.min(this.count, NEWEST)).sort();
      const rank = (p) => sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)];
      this.#summary = { p50: rank(0.5), p99: rank(0.99), max: rank(1) };
    }
    return this.#summary;
  }

  // bins are those of the last half minute: age in ms and least, mean and most.
  bins(now) {
    const current = Math.floor(now / BIN);
    const bins = [];
    for (const [number, { least, most, sum, count }] of this.#bins) {
      if (number <= current - BINS) {
        this.#bins.delete(number);
      } else {
        bins.push({ age: (current - number) * BIN, least, mean: sum / count, most });
      }
    }
    return bins;
  }

  clear() {
    this.#bins.clear();
    this.#summary = null;
    this.count = 0;
  }
}

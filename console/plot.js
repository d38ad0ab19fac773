import { formatDuration } from './bytes.js';
import { Latency } from './latency.js';

const MARGIN = { top: 8, right: 8, bottom: 20, left: 56 };

// A Plot draws round-trip times over the last half minute: a dot for the mean of
// each tenth of a second, and behind it the range from the least to the most.
export class Plot {
  #canvas;
  #latency;
  #drawn = false; // whether there is anything to wipe out

  constructor(canvas, latency) {
    this.#canvas = canvas;
    this.#latency = latency;
    new ResizeObserver(() => this.draw(true)).observe(canvas);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.draw(true));
  }

  draw(anyway = false) {
    const bins = this.#latency.bins(performance.now());
    if (bins.length === 0 && !this.#drawn && !anyway) {
      return;
    }
    this.#drawn = bins.length > 0;
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const scale = devicePixelRatio;
    this.#canvas.width = Math.round(width * scale);
    this.#canvas.height = Math.round(height * scale);
    const context = this.#canvas.getContext('2d');
    context.scale(scale, scale);
    const style = getComputedStyle(this.#canvas);
    const color = (name) => style.getPropertyValue(name);
    context.font = `11px ${style.fontFamily}`;

    const most = bins.reduce((most, bin) => Math.max(most, bin.most), 0);
    const step = niceStep(most / 4 || 1);
    const top = step * Math.max(3, Math.ceil(most / step));
    const x = (age) => width - MARGIN.right - (age / Latency.SPAN) * (width - MARGIN.left - MARGIN.right);
    const y = (ms) => height - MARGIN.bottom - (ms / top) * (height - MARGIN.top - MARGIN.bottom);

    this.#drawAxes(context, { x, y, step, top, width, height, color });
    if (bins.length > 0) {
      this.#drawPercentile(context, { y, width, color, top });
      drawBins(context, bins, { x, y, color });
    }
  }

  #drawAxes(context, { x, y, step, top, width, height, color }) {
    context.strokeStyle = color('--line');
    context.fillStyle = color('--muted');
    context.lineWidth = 1;
    context.textAlign = 'right';
    context.textBaseline = 'middle';
    for (let ms = 0; ms <= top * 1.001; ms += step) {
      const at = Math.round(y(ms)) + 0.5;
      context.beginPath();
      context.moveTo(MARGIN.left, at);
      context.lineTo(width - MARGIN.right, at);
      context.stroke();
      context.fillText(axisLabel(ms, step), MARGIN.left - 8, at);
    }
    context.textBaseline = 'alphabetic';
    for (const age of [0, 10_000, 20_000, 30_000]) {
      context.textAlign = age === 0 ? 'right' : age === Latency.SPAN ? 'left' : 'center';
      context.fillText(age === 0 ? 'now' : `−${age / 1000} s`, x(age), height - 4);
    }
  }

  #drawPercentile(context, { y, width, color, top }) {
    const { p99 } = this.#latency.summary();
    if (p99 > top) {
      return; // of a time before the last half minute
    }
    const at = Math.round(y(p99)) + 0.5;
    context.strokeStyle = color('--warn');
    context.setLineDash([3, 4]);
    context.beginPath();
    context.moveTo(MARGIN.left, at);
    context.lineTo(width - MARGIN.right, at);
    context.stroke();
    context.setLineDash([]);
  }
}

function drawBins(context, bins, { x, y, color }) {
  context.strokeStyle = color('--range');
  context.lineWidth = 2;
  context.lineCap = 'round';
  context.beginPath();
  for (const { age, least, most } of bins) {
    context.moveTo(x(age), y(most));
    context.lineTo(x(age), y(least) + 0.01);
  }
  context.stroke();
  context.fillStyle = color('--accent');
  for (const { age, mean } of bins) {
    context.beginPath();
    context.arc(x(age), y(mean), 1.75, 0, 2 * Math.PI);
    context.fill();
  }
}

// niceStep is the next larger of 1, 2 and 5 times a power of ten.
function niceStep(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= value * 0.999);
}

function axisLabel(ms, step) {
  if (ms === 0) {
    return '0';
  }
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return step >= 1000 ? formatDuration(ms) : `${ms.toFixed(digits)} ms`;
}

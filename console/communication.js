import { formatCount, formatDuration, formatTime } from './bytes.js';
import { Entry, Log } from './log.js';
import { Grid } from './grid.js';
import { copy, save, toJSONLines, toLines } from './export.js';
import { $ } from './dom.js';

// The Communication is the panel of the log, with what filters, shows and saves it.
export class Communication {
  #log = new Log();
  #grid = new Grid($('log'), this.#log, {
    onselect: showDetail,
    onfollow: (following) => {
      $('follow').hidden = following;
    },
  });
  #rendering = false;
  #cleared;

  constructor({ cleared }) {
    this.#cleared = cleared;
    $('filter').addEventListener('input', () => this.#filter());
    $('filter-direction').addEventListener('change', () => this.#filter());
    $('follow').addEventListener('click', () => {
      this.#grid.follow();
      $('log').focus();
    });
    $('detail-close').addEventListener('click', () => {
      this.#grid.select(-1);
      $('log').focus();
    });
    $('clear').addEventListener('click', () => this.#clear());
    $('copy').addEventListener('click', () => this.#copy());
    $('save').addEventListener('click', () => this.#save());
  }

  add(direction, what) {
    this.#log.add(new Entry(direction, what));
    this.#render();
  }

  // #render draws with the frame after next, however much has changed until then.
  // With the next one it would keep the echo waiting of a message that a key has
  // just sent, and be measured itself.
  #render() {
    if (!this.#rendering) {
      this.#rendering = true;
      requestAnimationFrame(() => requestAnimationFrame(() => this.#draw()));
    }
  }

  #draw() {
    this.#rendering = false;
    this.#grid.render();
    const [all, shown] = [this.#log.size, this.#log.shown.length];
    $('empty').hidden = shown > 0;
    $('empty').textContent = all === 0 ? 'Nothing has happened yet.' : 'No entries match the filter.';
    $('count').textContent = shown === all ? formatCount(all) : `${formatCount(shown)} of ${formatCount(all)}`;
  }

  #filter() {
    this.#log.filter($('filter-direction').value, $('filter').value.trim());
    this.#render();
  }

  #clear() {
    this.#log.clear();
    this.#grid.select(-1);
    this.#grid.follow();
    this.#render();
    this.#cleared();
    $('log-status').textContent = 'Cleared';
  }

  async #copy() {
    const entries = this.#log.shown.slice();
    try {
      await copy(toLines(entries));
      $('log-status').textContent = `Copied ${formatCount(entries.length)}`;
    } catch (error) {
      $('log-status').textContent = `Copy failed: ${error.message}`;
    }
  }

  #save() {
    const entries = this.#log.shown;
    save(toJSONLines(entries), `websocket-${new Date().toISOString().replace(/[:.]/g, '-')}.jsonl`);
    $('log-status').textContent = `Saved ${formatCount(entries.length)}`;
  }
}

function showDetail(entry) {
  $('detail').hidden = !entry;
  if (!entry) {
    return;
  }
  const { message, direction, type, rtt, asked } = entry;
  $('detail-title').textContent = [
    formatTime(entry.time),
    direction === 'event' ? type : `${direction} ${type}`,
    message && `${formatCount(message.size)} bytes`,
    rtt !== undefined && formatDuration(rtt),
    asked !== undefined && `asked for ${formatDuration(asked)}`,
    message?.name,
  ]
    .filter(Boolean)
    .join(' · ');
  $('detail-text').textContent = entry.full;
}

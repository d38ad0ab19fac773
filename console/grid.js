// A Grid shows the entries of a log. Only the rows in view are in the document.
export class Grid {
  #log;
  #scroller;
  #space;
  #rows;
  #rowHeight = 24; // as the style has it
  #following = true; // whether the newest entry stays in view
  #dropped = 0;
  #selected = null;
  #onselect;
  #onfollow;

  constructor(scroller, log, { onselect, onfollow }) {
    this.#scroller = scroller;
    this.#log = log;
    this.#space = scroller.querySelector('[role=rowgroup].body');
    this.#rows = this.#space.firstElementChild;
    this.#onselect = onselect;
    this.#onfollow = onfollow;
    scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    scroller.addEventListener('keydown', (event) => this.#key(event));
    this.#rows.addEventListener('click', ({ target }) => {
      const row = target.closest('[role=row]');
      if (row && getSelection().isCollapsed) {
        this.select(Number(row.ariaRowIndex) - 2);
      }
    });
    new ResizeObserver(() => this.render()).observe(scroller);
  }

  // follow goes to the newest entry and stays with it.
  follow() {
    this.#following = true;
    this.render();
  }

  #scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.#scroller;
    this.#following = scrollTop + clientHeight >= scrollHeight - this.#rowHeight;
    this.render();
  }

  #key(event) {
    const shown = this.#log.shown;
    const at = shown.indexOf(this.#selected);
    const to = {
      ArrowDown: Math.min(at + 1, shown.length - 1),
      ArrowUp: at < 0 ? shown.length - 1 : Math.max(at - 1, 0),
      Home: 0,
      End: shown.length - 1,
      Escape: -1,
    }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      this.select(to);
    }
  }

  // select takes the index of a shown entry, or -1.
  select(index) {
    this.#selected = this.#log.shown[index] ?? null;
    this.#onselect(this.#selected);
    if (this.#selected) {
      this.#following &&= index === this.#log.shown.length - 1;
      const top = index * this.#rowHeight;
      const room = this.#scroller.clientHeight - this.#headHeight - this.#rowHeight;
      this.#scroller.scrollTop = Math.min(top, Math.max(this.#scroller.scrollTop, top - room));
    }
    this.render();
  }

  get #headHeight() {
    return this.#scroller.firstElementChild.offsetHeight;
  }

  render() {
    const { shown, dropped } = this.#log;
    this.#rowHeight = parseFloat(getComputedStyle(this.#scroller).getPropertyValue('--row'));
    this.#space.style.height = `${shown.length * this.#rowHeight}px`;
    this.#scroller.ariaRowCount = String(shown.length + 1);
    if (this.#following) {
      this.#scroller.scrollTop = this.#scroller.scrollHeight;
    } else if (dropped > this.#dropped) {
      this.#scroller.scrollTop -= (dropped - this.#dropped) * this.#rowHeight;
    }
    this.#dropped = dropped;
    const first = Math.max(0, Math.floor(this.#scroller.scrollTop / this.#rowHeight) - 4);
    const count = Math.ceil(this.#scroller.clientHeight / this.#rowHeight) + 8;
    const entries = shown.slice(first, first + count);
    while (this.#rows.childElementCount < entries.length) {
      this.#rows.append(newRow());
    }
    while (this.#rows.childElementCount > entries.length) {
      this.#rows.lastElementChild.remove();
    }
    this.#rows.style.transform = `translateY(${first * this.#rowHeight}px)`;
    let active = null;
    entries.forEach((entry, i) => {
      const row = this.#rows.children[i];
      fill(row, entry, first + i + 2); // the first row is that of the headings
      row.ariaSelected = String(entry === this.#selected);
      active = entry === this.#selected ? row.id : active;
    });
    if (active) {
      this.#scroller.setAttribute('aria-activedescendant', active);
    } else {
      this.#scroller.removeAttribute('aria-activedescendant');
    }
    this.#onfollow(this.#following);
  }
}

function newRow() {
  const row = document.createElement('div');
  row.role = 'row';
  for (const name of ['time', 'direction', 'type', 'size', 'rtt', 'preview']) {
    const cell = document.createElement('div');
    cell.role = 'gridcell';
    cell.className = name;
    row.append(cell);
  }
  return row;
}

function fill(row, entry, number) {
  row.ariaRowIndex = String(number);
  row.id = `row-${number}`;
  if (row.entry === entry) {
    return;
  }
  row.entry = entry;
  row.dataset.direction = entry.direction;
  row.dataset.type = entry.type;
  entry.cells.forEach((text, i) => {
    row.children[i].textContent = text;
  });
}

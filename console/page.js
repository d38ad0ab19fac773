import { formatCount, formatDuration, formatSize, utf8 } from './bytes.js';
import { Message } from './message.js';
import { Connection, MAX_REASON, describeClose, ownURL, parseClose, parseProtocols, parseURL } from './socket.js';
import { Controls, controlsOf } from './controls.js';
import { Effect } from './effect.js';
import { Echoes } from './echoes.js';
import { Rate } from './rate.js';
import { Latency } from './latency.js';
import { Plot } from './plot.js';
import { Communication } from './communication.js';
import { $ } from './dom.js';
import { Composer } from './composer.js';
import { Burst, HIGH_WATER, MOST_BYTES, MOST_MESSAGES, Repeat, parseWhole } from './traffic.js';

const own = ownURL(location);

const connection = new Connection({ changed, received });
let echoes = new Echoes();
let effect = new Effect(new Map());
const rates = { sent: new Rate(), received: new Rate() };
const latency = new Latency();
const plot = new Plot($('plot'), latency);
const communication = new Communication({ cleared });
const composer = new Composer($('message-form'), $('message-hint'));
const repeat = new Repeat();
const burst = new Burst();
let connecting; // when the handshake began

// attempt shows what goes wrong beside the control that it is about.
async function attempt(action, error, ...inputs) {
  let message = '';
  try {
    await action();
  } catch (e) {
    message = e.message;
  }
  $(error).textContent = message;
  for (const input of inputs) {
    $(input).ariaInvalid = message ? 'true' : null;
  }
}

function submit(form, action) {
  $(form).addEventListener('submit', (event) => {
    event.preventDefault();
    action();
  });
}

// State

function changed() {
  const { state, closed, protocol, extensions } = connection;
  switch (state) {
    case 'Open': {
      effect.opened();
      const took = performance.now() - connecting;
      communication.add('event', { type: 'open', text: `in ${formatDuration(took)}`, details: { protocol, extensions } });
      break;
    }
    case 'Closing':
      stopTraffic(); // what is sent from now on goes nowhere
      break;
    case 'Closed': {
      const { code, reason, wasClean } = closed;
      communication.add('event', { type: 'closed', text: describeClose(closed), details: { code, reason, clean: wasClean } });
      stopTraffic();
      echoes.clear();
      effect.closed(closed);
      break;
    }
  }
  showState();
}

function showState() {
  const { state, open, closed, protocol, extensions } = connection;
  const hadFocus = document.activeElement;
  $('state').dataset.state = state.toLowerCase();
  $('state-name').textContent = state;
  $('state-detail').textContent = state === 'Closed' ? describeClose(closed) : '';
  $('protocol').textContent = protocol || 'none';
  $('extensions').textContent = extensions || 'none';
  document.title = `${state} – ${location.host}${location.pathname}`;
  showEffect();
  // A control that is only waiting keeps the focus.
  $('connect').disabled = open;
  $('connect').ariaDisabled = String(!idle());
  $('close').disabled = idle();
  $('close').ariaDisabled = String(state === 'Closing');
  $('send').disabled = $('repeat').disabled = $('burst').disabled = !open;
  // A control that has just been disabled takes no keys.
  if (hadFocus?.disabled) {
    if (open) {
      composer.focus();
    } else {
      $('connect').focus();
    }
  }
}

function idle() {
  return ['Ready', 'Closed'].includes(connection.state);
}

function stopTraffic() {
  repeat.stop();
  $('repeat').checked = false;
  burst.stop();
}

submit('connect-form', () =>
  attempt(
    () => {
      if (!idle()) {
        return;
      }
      const url = parseURL($('url').value, own);
      const protocols = parseProtocols($('protocols').value);
      connecting = performance.now();
      echoes = new Echoes();
      effect = new Effect($('test-controls').hidden ? new Map() : controlsOf(url));
      connection.connect(url, protocols);
      communication.add('event', { type: 'connect', text: url, details: { offered: protocols } });
    },
    'connect-error',
  ),
);

submit('close-form', () =>
  attempt(
    () => {
      if (idle() || connection.state === 'Closing') {
        return;
      }
      const codeAndReason = parseClose($('close-code').value, $('close-reason').value);
      connection.close(...codeAndReason);
      communication.add('event', { type: 'close', text: codeAndReason.join(' ') });
    },
    'close-error',
    'close-code',
    'close-reason',
  ),
);

$('close-reason').addEventListener('input', () => {
  $('reason-size').textContent = `${utf8($('close-reason').value).length} of ${MAX_REASON} bytes`;
});

// Messages

function transmit(data, message) {
  const now = performance.now();
  connection.send(data);
  echoes.add(message, now);
  rates.sent.add(now, message.size);
  communication.add('sent', { message });
}

function received(data) {
  const now = performance.now();
  const message = Message.of(data);
  rates.received.add(now, message.size);
  if (effect.takeHello(data)) {
    communication.add('received', { message });
    return;
  }
  const rtt = echoes.match(message, now);
  if (rtt !== undefined) {
    latency.add(now, rtt);
  }
  effect.received(rtt);
  communication.add('received', { message, rtt, asked: rtt === undefined ? undefined : effect.delay });
}

const send = () =>
  attempt(
    async () => {
      try {
        const { data, message } = await composer.read();
        if (!connection.open) {
          throw new Error('The socket is not open.');
        }
        transmit(data, message);
      } catch (e) {
        repeat.stop();
        $('repeat').checked = false;
        throw e;
      }
    },
    'message-error',
  );

submit('message-form', send);

function toggleRepeat() {
  repeat.stop();
  attempt(
    () => {
      if ($('repeat').checked) {
        try {
          const turn = () => connection.buffered <= HIGH_WATER && send(); // or it would pile up
          repeat.start(turn, parseWhole($('interval'), 'Interval', 1, 3_600_000));
        } catch (e) {
          $('repeat').checked = false;
          throw e;
        }
        send();
      }
    },
    'traffic-error',
    'interval',
  );
}
$('repeat').addEventListener('change', toggleRepeat);
$('interval').addEventListener('change', () => $('repeat').checked && toggleRepeat());

submit('burst-form', () => {
  if (burst.running) {
    burst.stop();
    return;
  }
  attempt(
    async () => {
      const count = parseWhole($('burst-count'), 'Messages', 1, MOST_MESSAGES);
      const size = parseWhole($('burst-size'), 'Bytes', 0, MOST_BYTES);
      $('burst').textContent = 'Stop';
      $('burst-result').textContent = 'Sending…';
      const start = performance.now();
      const sent = await burst.run({
        count,
        size,
        text: composer.type === 'text',
        send: (data) => transmit(data, Message.of(data)),
        buffered: () => connection.buffered,
      });
      const took = formatDuration(performance.now() - start);
      $('burst').textContent = 'Start';
      $('burst-result').textContent = `Sent ${formatCount(sent)} × ${formatSize(size)} in ${took}`;
    },
    'traffic-error',
  );
});

// Figures

function showEffect() {
  effect.missing = echoes.missing;
  const rows = effect.rows.map(([name, text]) => {
    const [row, term, value] = ['div', 'dt', 'dd'].map((tag) => document.createElement(tag));
    term.textContent = name;
    value.textContent = text;
    row.append(term, value);
    return row;
  });
  $('effect').replaceChildren(...rows);
}

function showFigures() {
  const summary = latency.summary();
  for (const name of ['p50', 'p99', 'max']) {
    $(name).textContent = summary ? formatDuration(summary[name]) : '–';
  }
  $('echoes').textContent = formatCount(latency.count);
  const now = performance.now();
  for (const direction of ['sent', 'received']) {
    const { messages, bytes } = rates[direction].read(now);
    $(`${direction}-messages`).textContent = formatCount(messages);
    $(`${direction}-bytes`).textContent = formatSize(bytes);
  }
}

function cleared() {
  latency.clear();
  plot.draw(true);
  showFigures();
}

const calm = matchMedia('(prefers-reduced-motion: reduce)');
let ticks = 0;
setInterval(() => {
  if (!document.hidden && (!calm.matches || ++ticks % 10 === 0)) {
    plot.draw();
    showFigures();
    showEffect();
  }
}, 100);

$('url').value = own;
$('test-controls').hidden = document.body.dataset.testControls === undefined;
new Controls($('controls-form'), $('url')).read();
showState();
showFigures();

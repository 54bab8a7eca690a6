// What all views share; base.py puts this text before each view's own. Data is only ever set as text, never as HTML.

/** Take a frame apart: see base.py for its form. */
function unpack(data) {
  const [seq, wanted, length] = [0, 4, 8].map((offset) => data.getUint32(offset, true));
  const text = new Uint8Array(data.buffer, data.byteOffset + 16, length);
  const state = JSON.parse(new TextDecoder().decode(text));
  let start = data.byteOffset + 16 + length;
  for (const [name, kind, count] of state.arrays) {
    const bytes = data.buffer.slice(start, start + 8 * count);
    // Counts above 2^53 lose their last digits here, which no pixel shows.
    state[name] = kind === "<u8" ? Float64Array.from(new BigUint64Array(bytes), Number) : new Float64Array(bytes);
    start += 8 * count;
  }
  return { seq, wanted, state };
}

/** Draw the model's latest frame, now and once a repaint when it changes; acknowledge what the kernel wants acknowledged. */
function follow(model, draw) {
  let repaint = 0;
  const show = (first) => {
    repaint = 0;
    const data = model.get("data");
    if (!data || data.byteLength < 16) return;
    const { seq, wanted, state } = unpack(data);
    draw(state);
    if (wanted || first) model.send({ ack: seq });
  };
  // A hidden page does not repaint, so it does not acknowledge, so the kernel sends it next to nothing.
  const changed = () => (repaint ||= requestAnimationFrame(() => show(false)));
  model.on("change:data", changed);
  show(true);
  return () => {
    model.off("change:data", changed);
    cancelAnimationFrame(repaint);
  };
}

/** Make an element: h("td.number", {title: "…"}, child, …); text children become text nodes. */
function h(kind, properties = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(node, attributes);
  node.append(...children);
  return node;
}

/** Set what differs: an attribute set to what it is already costs a style pass. */
function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    const text = typeof value === "number" ? String(Math.round(value * 100) / 100) : value;
    if (node.getAttribute(name) !== text) node.setAttribute(name, text);
  }
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function title(node, text) {
  if (node.title !== text) node.title = text;
}

/** Make `parent` hold one child for each item, kept by key and in order: nothing is rebuilt that is there. */
function keyed(parent, items, key, make, fill) {
  const old = (parent.byKey ??= new Map());
  const now = new Map();
  for (const item of items) {
    let name = key(item);
    while (now.has(name)) name += "\u0000";
    const node = old.get(name) ?? make(item);
    now.set(name, node);
    fill(node, item);
  }
  for (const [name, node] of old) if (!now.has(name)) node.remove();
  let before = null;
  for (const node of now.values()) {
    const place = before ? before.nextSibling : parent.firstChild;
    if (place !== node) parent.insertBefore(node, place);
    before = node;
  }
  parent.byKey = now;
}

/** Lines of text below a view: quiet ones, and warnings. */
function footer(node, quiet, warnings) {
  const lines = [...warnings.map((text) => ["warning", text]), ...quiet.map((text) => ["note", text])];
  keyed(
    node,
    lines,
    ([kind, text]) => kind + text,
    ([kind, text]) => h(`span.em-${kind}`, {}, text),
    () => {},
  );
}

const SCALES = {
  ns: [[1, "ns"], [1e3, "µs"], [1e6, "ms"], [1e9, "s"]],
  bytes: [[1, "B"], [2 ** 10, "KiB"], [2 ** 20, "MiB"], [2 ** 30, "GiB"], [2 ** 40, "TiB"]],
};
const grouped = [0, 1, 2].map(
  (digits) => new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }),
);

function scaleOf(value, unit) {
  const steps = SCALES[unit];
  let chosen = steps[0];
  for (let index = 1; index < steps.length; index++) {
    if (Math.abs(value) >= steps[index][0] - steps[index - 1][0] / 2) chosen = steps[index];
  }
  return chosen;
}

function significant(value) {
  const size = Math.abs(value);
  return grouped[size >= 99.95 || Number.isInteger(value) ? 0 : size >= 9.995 ? 1 : 2].format(value);
}

/** A value as people read it: 1.53 µs, 64 KiB, 12,345. */
function human(value, unit = "") {
  if (value === null || value === undefined || !Number.isFinite(Number(value))) return "–";
  if (!(unit in SCALES)) return unit ? `${significant(Number(value))} ${unit}` : significant(Number(value));
  const [divisor, name] = scaleOf(Number(value), unit);
  return `${significant(Number(value) / divisor)} ${name}`;
}

/** A value with all its digits; integers too large for a number come as text. */
function exact(value, unit = "") {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" ? BigInt(value).toLocaleString("en-US") : value.toLocaleString("en-US", { maximumFractionDigits: 6 });
  return unit ? `${text} ${unit}` : text;
}

/** A value as a tick says it: 10 µs, 2.5k. */
function short(value, unit = "") {
  const digits = (number) => String(Number(number.toPrecision(3)));
  if (unit in SCALES) {
    const [divisor, name] = scaleOf(value, unit);
    return `${digits(value / divisor)} ${name}`;
  }
  for (const [divisor, name] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= divisor) return digits(value / divisor) + name;
  }
  return digits(value);
}

/** A share of one as a percentage with the digits that matter. */
function percent(share) {
  const value = share * 100;
  if (value === 0) return "0 %";
  if (value < 0.01) return "< 0.01 %";
  return `${grouped[value < 1 ? 2 : value < 100 ? 1 : 0].format(value)} %`;
}

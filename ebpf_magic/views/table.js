const WORDS = { delta: "Δ", rate: "per s" };
const MOVE_MS = 220;

function shown(value, column) {
  if (column.kind === "key" || column.kind === "text") return value === null ? "–" : typeof value === "number" ? String(value) : value;
  const text = human(value, column.unit);
  if (value === null) return text;
  if (Number(value) === 0 && column.kind !== "total") return "0";
  if (column.kind === "delta") return text.startsWith("-") ? text : `+${text}`;
  return column.kind === "rate" ? `${text}/s` : text;
}

const isText = (column, rows) =>
  column.kind === "text" || (column.kind === "key" && rows.some((row) => typeof row[column.index] !== "number"));

function compare(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "number" && typeof b === "number") return a - b;
  // Integers too large for a number are digits; a key may be text.
  if (/^-?\d+$/.test(a) && /^-?\d+$/.test(b)) return BigInt(a) < BigInt(b) ? -1 : Number(BigInt(a) > BigInt(b));
  return String(a).localeCompare(String(b));
}

function render({ model, el }) {
  const name = h("div.em-title");
  const head = h("tr");
  const body = h("tbody");
  const table = h("table.em-table", {}, h("thead", {}, head), body);
  const empty = h("div.em-empty", {}, "no data yet");
  const foot = h("div.em-footer", { role: "status", "aria-live": "off" });
  el.append(h("div.em-view.em-table-view", {}, name, h("div.em-scroll", {}, table), empty, foot));

  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const widths = new Map();
  let latest = null;
  // What a click asked for, until the kernel (busy, perhaps) sends rows chosen by it.
  let asked = null;

  function sortBy(column) {
    const now = asked ?? latest;
    const numeric = !isText(column, latest.rows);
    asked = { by: column.name, ascending: now.by === column.name ? !now.ascending : !numeric };
    model.send({ sort: asked.by, ascending: asked.ascending });
    draw(latest);
  }

  function heading(column, order) {
    const button = h("button", { type: "button", title: `sort by ${column.name}` });
    button.addEventListener("click", () => sortBy(button.column));
    return h("th", { scope: "col" }, button, h("span.em-arrow", { "aria-hidden": "true" }));
  }

  function fillHeading(th, column, order, rows) {
    const sorted = order.by === column.name;
    const button = th.firstChild;
    button.column = column;
    say(button, WORDS[column.kind] ?? column.name);
    set(button, { "aria-label": column.name });
    set(th, { "aria-sort": sorted ? (order.ascending ? "ascending" : "descending") : "none" });
    say(th.lastChild, sorted ? (order.ascending ? "▲" : "▼") : "");
    th.className = `em-${column.kind}${isText(column, rows) ? "" : " em-number"}`;
  }

  function fillRow(tr, row, columns, largest) {
    columns.forEach((column, index) => {
      const cell = tr.children[index];
      const text = shown(row[index], column);
      // A column only ever grows, so nothing shifts while numbers change.
      if (text.length > (widths.get(column.name) ?? 0)) widths.set(column.name, text.length);
      say(cell.firstChild, text);
      if (!column.text) title(cell, exact(row[index], column.unit) + (column.kind === "rate" ? " per second" : ""));
      if (column.kind === "total") {
        const share = largest[index] > 0 ? Math.max(0, Number(row[index]) / largest[index]) : 0;
        cell.style.setProperty("--em-share", share.toFixed(4));
      }
      cell.classList.toggle("em-zero", column.kind !== "total" && Number(row[index]) === 0 && !column.text);
    });
  }

  function draw(state) {
    latest = state;
    if (asked && asked.by === state.by && asked.ascending === state.ascending) asked = null;
    const order = asked ?? state;
    const columns = state.columns.map((column, index) => ({ ...column, index }));
    columns.forEach((column) => (column.text = isText(column, state.rows)));
    const keys = columns.filter((column) => column.kind === "key").length;
    const sorting = columns.find((column) => column.name === order.by);
    let rows = state.rows;
    if (asked && sorting) {
      const sign = asked.ascending ? 1 : -1;
      rows = [...rows].sort((a, b) => sign * compare(a[sorting.index], b[sorting.index]));
    }
    const largest = columns.map((column) => Math.max(...rows.map((row) => Number(row[column.index]) || 0)));

    say(name, state.title);
    name.hidden = !state.title;
    empty.hidden = rows.length > 0;
    table.hidden = columns.length === 0;
    keyed(head, columns, (column) => column.name, heading, (th, column) => fillHeading(th, column, order, rows));

    const before = new Map([...body.children].map((tr) => [tr, tr.offsetTop]));
    keyed(
      body,
      rows,
      (row) => JSON.stringify([columns.length, row.slice(0, keys)]),
      () => h("tr", {}, ...columns.map((column) => h(`td.em-${column.kind}${column.text ? "" : ".em-number"}`, {}, h("span")))),
      (tr, row) => fillRow(tr, row, columns, largest),
    );
    columns.forEach((column, index) => {
      const width = `${Math.min(widths.get(column.name) ?? 0, 40)}ch`;
      const inner = head.children[index];
      if (inner.style.getPropertyValue("--em-width") !== width) inner.style.setProperty("--em-width", width);
    });
    if (!still.matches) move(before);

    const count = state.columns.length ? [`${rows.length.toLocaleString("en-US")} of ${state.total.toLocaleString("en-US")} rows`] : [];
    footer(foot, [...count, ...state.notes], state.warnings);
  }

  /** Let rows glide from where they were. */
  function move(before) {
    for (const tr of body.children) {
      const was = before.get(tr);
      if (was === undefined) {
        if (before.size) tr.animate([{ opacity: 0 }, { opacity: 1 }], { duration: MOVE_MS });
      } else if (was !== tr.offsetTop) {
        tr.animate([{ transform: `translateY(${was - tr.offsetTop}px)` }, { transform: "none" }], {
          duration: MOVE_MS,
          easing: "ease-out",
        });
      }
    }
  }

  return follow(model, draw);
}

export default { render };

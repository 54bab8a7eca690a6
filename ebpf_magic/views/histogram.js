const HEIGHT = 210;
const SIDE = { left: 52, right: 14, bottom: 40 };
const ROW = 17;
const ROWS = 4;

// Bars: whole buckets put together, never one split; bins.py says why these.
const STARTS = { 4: [[0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14], [0, 3, 7, 11]], 2: [[0, 1, 2, 3, 4, 6, 8, 11], [0, 7]] };
const BUCKETS = 976;

/** The lowest value of a bucket. */
const edge = (bucket) => (bucket < 16 ? bucket : (16 + (bucket % 16)) * 2 ** (Math.floor(bucket / 16) - 1));

/** The bucket a value is in. */
function bucketOf(value) {
  if (value < 16) return Math.max(0, Math.floor(value));
  const power = Math.floor(Math.log2(value));
  return (power - 3) * 16 + Math.min(15, Math.floor(value / 2 ** (power - 4)) - 16);
}

function uniform(first, last) {
  const width = edge(last + 1) - edge(last);
  const starts = [];
  for (let bucket = 0; bucket <= last; bucket++) if (edge(bucket) % width === 0) starts.push(bucket);
  return { width, starts, begin: starts.findLastIndex((bucket) => bucket <= first), end: last + 1 };
}

function byDoubling(first, last, low, high) {
  const [below, within] = STARTS[high <= low * 2 ** 35 ? 4 : 2];
  const starts = [...below];
  for (let bucket = 16; bucket < BUCKETS; bucket++) if (within.includes(bucket % 16)) starts.push(bucket);
  return { width: 0, starts, begin: starts.findLastIndex((bucket) => bucket <= first), end: starts.find((bucket) => bucket > last) ?? BUCKETS };
}

/** The bars to draw: [{low, high, count, below}], their common width, and how many values lie beyond the last. */
function barsOf({ counts, first }, logarithmic, p99) {
  if (!counts.length) return { bars: [], width: 0, beyond: 0 };
  let last = first + counts.length - 1;
  let from = first;
  if (!logarithmic) {
    // One far outlier would press everything into the first bar: what lies beyond is told by number instead.
    if (p99 > 0 && edge(last + 1) > 3 * p99) last = Math.max(first, bucketOf(1.5 * p99));
    if (edge(first) < edge(last + 1) / 2) from = 0;
  }
  const low = Math.max(edge(from), 1);
  const high = edge(last + 1);
  const narrow = !logarithmic || high <= low * 2 ** 3;
  const { width, starts, begin, end } = narrow ? uniform(from, last) : byDoubling(from, last, low, high);
  const bars = [];
  let below = 0;
  for (let index = begin; index < starts.length && starts[index] <= last; index++) {
    const stop = Math.min(starts[index + 1] ?? end, end);
    let count = 0;
    for (let bucket = Math.max(starts[index], first); bucket < stop; bucket++) count += counts[bucket - first] ?? 0;
    bars.push({ low: edge(starts[index]), high: edge(stop), count, below });
    below += count;
  }
  return { bars, width, beyond: counts.reduce((sum, count) => sum + count, 0) - below };
}

function linearTicks(low, high, unit, most) {
  const base = unit === "bytes" ? 2 : 10;
  const rough = (high - low) / most;
  const power = rough > 0 ? base ** Math.floor(Math.log(rough) / Math.log(base) + 1e-9) : 1;
  const step = power * [1, 2, 5, 10].find((digit) => power * digit >= rough * 0.999);
  const ticks = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high * (1 + 1e-9); index++) ticks.push(index * step);
  return ticks;
}

function logTicks(low, high, unit, most) {
  const start = low < 1 ? [0] : [];
  low = Math.max(low, 1);
  const octaves = Math.log2(high / low);
  const ticks = [];
  if (unit === "bytes" && octaves > 2) {
    const step = [1, 2, 5, 10, 20].find((size) => octaves / size <= most) ?? 20;
    for (let power = Math.ceil(Math.log2(low) / step) * step; 2 ** power <= high; power += step) ticks.push(2 ** power);
    return [...start, ...ticks];
  }
  const decades = Math.log10(high / low);
  if (decades < 0.7) return [...start, ...linearTicks(low, high, unit, Math.min(most, 6))];
  const digits = decades * 3 <= most ? [1, 2, 5] : decades * 2 <= most ? [1, 3] : [1];
  const every = Math.ceil(decades / most);
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    if (power % every === 0) for (const digit of digits) ticks.push(digit * 10 ** power);
  }
  return [...start, ...ticks.filter((tick) => tick >= low && tick <= high)];
}

/** The next round number, so that the axis does not tremble while the counts grow. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find((digit) => digit * power >= value);
}

/** Give each label a row and a side of its line where it covers no other label and no other line; see labels.py. */
function place(marks, low, high) {
  const span = (mark, side) => (side > 0 ? [mark.x + 4, mark.x + 4 + mark.width] : [mark.x - 4 - mark.width, mark.x - 4]);
  const covers = (a, b) =>
    (a.row === b.row && a.span[0] < b.span[1] + 8 && b.span[0] < a.span[1] + 8) ||
    (b.row >= a.row && b.x > a.span[0] - 3 && b.x < a.span[1] + 3) ||
    (a.row >= b.row && a.x > b.span[0] - 3 && a.x < b.span[1] + 3);
  let best = null;
  let least = Infinity;
  const search = (placed, cost) => {
    if (cost >= least) return;
    if (placed.length === marks.length) {
      [best, least] = [placed, cost];
      return;
    }
    const mark = marks[placed.length];
    for (let row = 0; row < ROWS; row++) {
      for (const side of [1, -1]) {
        const tried = { ...mark, row, side, span: span(mark, side) };
        if (tried.span[0] < low || tried.span[1] > high || placed.some((other) => covers(tried, other))) continue;
        search([...placed, tried], cost + 10 * row + (side < 0 ? 1 : 0));
      }
    }
  };
  search([], 0);
  return best ?? marks.map((mark, index) => ({ ...mark, row: ROWS - 1 - (index % ROWS), side: mark.x > (low + high) / 2 ? -1 : 1 }));
}

function choice(label, options, chosen, choose) {
  const buttons = options.map(([value, text]) => {
    const button = h("button", { type: "button" }, text);
    button.addEventListener("click", () => {
      press(value);
      choose(value);
    });
    return [value, button];
  });
  const press = (value) => buttons.forEach(([own, button]) => set(button, { "aria-pressed": String(own === value) }));
  press(chosen);
  return h("span.em-choice", { role: "group", "aria-label": `${label} axis` }, h("span", {}, label), ...buttons.map(([, button]) => button));
}

const ruler = document.createElement("canvas").getContext("2d");

function render({ model, el }) {
  const axes = { x: "log", y: "linear" };
  const redraw = () => latest && draw(latest);
  const scales = [["log", "log"], ["linear", "linear"]];
  const name = h("div.em-title");
  const choices = h(
    "div.em-choices",
    {},
    ...["x", "y"].map((axis) => choice(axis, scales, axes[axis], (value) => ((axes[axis] = value), (rows = 1), redraw()))),
  );
  const [grid, bars, frame, marks] = [0, 0, 0, 0].map(() => svg("g"));
  const baseline = svg("line", { class: "em-baseline" });
  const [xName, yName, beyondText] = [0, 0, 0].map(() => svg("text", { class: "em-axis-name" }));
  frame.append(baseline, xName, yName, beyondText);
  const picture = svg("svg", { role: "img", tabindex: "0" }, grid, bars, frame, marks);
  const tip = h("div.em-tip", { hidden: true });
  const empty = h("div.em-empty", {}, "no values yet");
  const plot = h("div.em-plot", {}, picture, tip);
  const foot = h("div.em-footer", { role: "status", "aria-live": "off" });
  const root = h("div.em-view.em-histogram", {}, h("div.em-head", {}, name, choices), plot, empty, foot);
  el.append(root);

  let latest = null;
  let shown = null;
  let pointed = -1;
  // Rows of labels above the chart: they only become more, so that the chart does not jump.
  let rows = 1;

  function draw(state) {
    latest = state;
    const value = Object.fromEntries(state.marks);
    const total = state.counts.reduce((sum, count) => sum + count, 0);
    say(name, state.title);
    empty.hidden = total > 0;
    plot.hidden = choices.hidden = total === 0;
    footer(foot, total ? [`${exact(total)} values`, ...state.notes] : state.notes, state.warnings);
    if (!total) return;

    const width = Math.max(320, Math.min(plot.clientWidth || 720, 1000));
    const right = width - SIDE.right;
    const logX = axes.x === "log";
    const { bars: list, width: step, beyond } = barsOf(state, logX, value.p99);
    const scale = (number) => (logX ? Math.log2(Math.max(number, 0.5)) : number);
    const [low, high] = [list[0].low, list.at(-1).high];
    const x = (number) => SIDE.left + ((scale(number) - scale(low)) / (scale(high) - scale(low))) * (right - SIDE.left);

    ruler.font = `600 12px ${getComputedStyle(root).fontFamily}`;
    const wanted = state.marks
      .map(([mark, at]) => {
        const outside = at > high;
        const text = `${mark} ${human(at, state.unit)}${outside ? " →" : ""}`;
        return { mark, text, outside, x: Math.max(SIDE.left, Math.min(x(at), right)), width: ruler.measureText(text).width };
      })
      .sort((a, b) => a.x - b.x);
    const placed = place(wanted, 2, width - 2);
    rows = Math.max(rows, ...placed.map((mark) => mark.row + 1));
    const top = rows * ROW + 8;
    const bottom = top + HEIGHT - SIDE.bottom;
    const tall = bottom + SIDE.bottom;
    set(picture, { viewBox: `0 0 ${width} ${tall}`, width, height: tall, "aria-label": wanted.map(({ text }) => text).join(", ") });

    const most = Math.max(...list.map(({ count }) => count));
    const ceiling = axes.y === "log" ? Math.max(2, most) * 1.3 : Math.max(1, roundUp(most));
    const share = (count) =>
      axes.y === "log" ? (count > 0 ? Math.log(count / 0.6) / Math.log(ceiling / 0.6) : 0) : count / ceiling;
    const y = (count) => bottom - share(count) * (bottom - top);

    drawGrid(axes.y === "log" ? logTicks(1, ceiling, "", 5) : linearTicks(0, ceiling, "", 5).filter(Number.isInteger), y, right);
    drawBars(list, x, y, bottom);
    const places = Math.floor((right - SIDE.left) / 68);
    const ticks = logX ? logTicks(low, high, state.unit, places) : linearTicks(low, high, state.unit, places);
    drawTicks(ticks, state.unit, x, bottom, right);
    drawMarks(placed, top, bottom);
    set(baseline, { x1: SIDE.left, x2: right, y1: bottom + 0.5, y2: bottom + 0.5 });
    set(xName, { x: (SIDE.left + right) / 2, y: bottom + 35, "text-anchor": "middle" });
    say(xName, `${state.unit || "value"}, ${logX ? "log" : "linear"} scale`);
    set(yName, { x: 12, y: (top + bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${Math.round((top + bottom) / 2)})` });
    say(yName, step > 1 ? `count per ${short(step, state.unit)}` : "count");
    set(beyondText, { x: right, y: bottom + 35, "text-anchor": "end" });
    say(beyondText, beyond > 0 ? `${exact(beyond)} (${percent(beyond / total)}) beyond ${human(high, state.unit)} →` : "");

    shown = { list, total, unit: state.unit, x, top, bottom, width };
    if (pointed >= 0) point(Math.min(pointed, list.length - 1));
  }

  function drawGrid(ticks, y, right) {
    keyed(
      grid,
      ticks,
      String,
      () => svg("g", {}, svg("line", { class: "em-grid" }), svg("text", { class: "em-tick", "text-anchor": "end" })),
      ({ firstChild: line, lastChild: text }, tick) => {
        set(line, { x1: SIDE.left, x2: right, y1: y(tick), y2: y(tick) });
        set(text, { x: SIDE.left - 8, y: y(tick) + 4 });
        say(text, short(tick));
      },
    );
  }

  function drawBars(list, x, y, bottom) {
    while (bars.childElementCount > list.length) bars.lastChild.remove();
    while (bars.childElementCount < list.length) bars.append(svg("rect"));
    list.forEach(({ low, high, count }, index) => {
      const [left, right] = [x(low), x(high)];
      const gap = right - left > 4 ? 1 : 0;
      // What is there is seen: a bar is never lower than a pixel.
      const height = count > 0 ? Math.max(1, bottom - y(count)) : 0;
      set(bars.children[index], { x: left + gap / 2, width: Math.max(0.5, right - left - gap), y: bottom - height, height });
    });
  }

  function drawTicks(ticks, unit, x, bottom, right) {
    let free = -Infinity;
    const fitting = ticks
      .map((tick) => {
        const text = tick === 0 ? "0" : short(tick, unit);
        // Zero has no place on a logarithmic axis: its bar is left of 1.
        const at = tick === 0 && axes.x === "log" ? (x(0) + x(1)) / 2 : x(tick);
        return { tick, text, at, half: ruler.measureText(text).width / 2 };
      })
      .filter(({ at, half }) => {
        const fits = at - half > free && at + half <= right + SIDE.right;
        if (fits) free = at + half + 8;
        return fits;
      });
    keyed(
      (frame.ticks ??= frame.appendChild(svg("g"))),
      fitting,
      ({ tick }) => String(tick),
      () => svg("g", {}, svg("line", { class: "em-baseline" }), svg("text", { class: "em-tick", "text-anchor": "middle" })),
      ({ firstChild: line, lastChild: label }, { text, at }) => {
        set(line, { x1: at, x2: at, y1: bottom, y2: bottom + 4 });
        set(label, { x: at, y: bottom + 18 });
        say(label, text);
      },
    );
  }

  function drawMarks(placed, top, bottom) {
    keyed(
      marks,
      placed,
      ({ mark }) => mark,
      ({ mark }) => svg("g", { class: `em-mark em-mark-${mark}`, style: `--em-mark: var(--em-${CSS.escape(mark)}, var(--em-quiet))` }, svg("line"), svg("text")),
      ({ firstChild: line, lastChild: label }, { x, row, side, text, outside }) => {
        const base = top - 8 - row * ROW;
        set(line, { x1: x, x2: x, y1: base - 10, y2: outside ? base + 2 : bottom });
        set(label, { x: x + 4 * side, y: base, "text-anchor": side > 0 ? "start" : "end" });
        say(label, text);
      },
    );
  }

  function point(index) {
    pointed = index;
    [...bars.children].forEach((bar, own) => bar.classList.toggle("em-pointed", own === index));
    tip.hidden = index < 0;
    if (index < 0) return;
    const { list, total, unit, x, top, width } = shown;
    const { low, high, count, below } = list[index];
    const range = high - 1 > low ? `${human(low, unit)} – ${human(high, unit)}` : human(low, unit);
    const lines = [
      ["em-tip-range", range],
      ["em-tip-exact", high - 1 > low ? `${exact(low)} to ${exact(high - 1)} ${unit}` : ""],
      ["", `${exact(count)} values · ${percent(count / total)}`],
      ["", `${percent((below + count) / total)} up to here`],
    ];
    keyed(tip, lines.filter(([, text]) => text), (line) => lines.indexOf(line), ([style]) => h(style ? `div.${style}` : "div"), (node, [, text]) => say(node, text));
    const middle = (x(low) + x(high)) / 2;
    const beside = middle > width / 2 ? middle - tip.offsetWidth - 14 : middle + 14;
    tip.style.transform = `translate(${Math.round(Math.max(0, beside))}px, ${Math.round(top + 6)}px)`;
  }

  picture.addEventListener("pointermove", (event) => {
    if (!shown) return;
    const at = event.clientX - picture.getBoundingClientRect().left;
    point(shown.list.findIndex(({ low, high }) => at >= shown.x(low) && at < shown.x(high)));
  });
  picture.addEventListener("pointerleave", () => point(-1));
  picture.addEventListener("blur", () => point(-1));
  picture.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !shown) return;
    event.preventDefault();
    event.stopPropagation();
    point(Math.max(0, Math.min(pointed + step, shown.list.length - 1)));
  });

  const sized = new ResizeObserver(redraw);
  sized.observe(plot);
  const unfollow = follow(model, draw);
  return () => {
    sized.disconnect();
    unfollow();
  };
}

export default { render };

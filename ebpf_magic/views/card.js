const SLOW_MS = 2000;
const isNumber = (value) => typeof value === "number";

/** A table with fixed headers whose rows are kept by name. */
function listing(kind, headers) {
  const body = h("tbody");
  const head = h("tr", {}, ...headers.map(([text, style, hint]) => h(`th${style}`, { scope: "col", title: hint ?? "" }, text)));
  const table = h(`table.em-listing.em-${kind}`, {}, h("thead", {}, head), body);
  const fill = (items, cells) => {
    table.hidden = items.length === 0;
    keyed(
      body,
      items,
      ({ name }) => name ?? "",
      () => h("tr", {}, ...headers.map(([, style]) => h(`td${style}`))),
      (tr, item) =>
        cells(item).forEach(([text, hint], index) => {
          if (typeof text === "function") return text(tr.children[index]);
          say(tr.children[index], text);
          title(tr.children[index], hint ?? "");
        }),
    );
  };
  return { table, fill };
}

function fullness({ type, entries, max_entries: most }) {
  return (cell) => {
    if (!cell.firstChild) cell.append(h("span"), h("span.em-meter", {}, h("span")));
    const [text, meter] = cell.children;
    // An array has all its entries from the start: full says nothing there.
    const known = isNumber(entries) && most > 0 && !String(type).includes("array");
    say(text, known ? `${exact(entries)} of ${exact(most)}` : isNumber(entries) ? exact(entries) : "–");
    meter.hidden = !known;
    if (!known) return;
    const share = Math.min(1, entries / most);
    meter.firstChild.style.width = `${(100 * share).toFixed(1)}%`;
    meter.classList.toggle("em-full", share >= 0.95);
    title(cell, percent(share));
  };
}

function noteOf({ note, refused }) {
  return (cell) => {
    if (!cell.firstChild) cell.append(h("span.em-quiet"), h("span.em-warning"));
    say(cell.firstChild, note ?? "");
    cell.lastChild.hidden = !refused;
    say(cell.lastChild, refused ? `${exact(refused)} refused` : "");
  };
}

const milliseconds = (ms) => (isNumber(ms) ? human(ms * 1e6, "ns") : "");
const share = (value) => (isNumber(value) ? percent(value) : "");

function render({ model, el }) {
  const dot = h("span.em-dot", { "aria-hidden": "true" });
  const name = h("span.em-name");
  const where = h("span.em-where");
  const hint = h("span.em-hint", { role: "status" });
  const stop = h("button.em-stop", { type: "button" }, "Stop");
  const stages = h("ol.em-stages", { "aria-label": "stages" });
  const cost = h("div.em-cost");
  const programs = listing("programs", [
    ["program", ""],
    ["target", ""],
    ["runs", ".em-number"],
    ["per second", ".em-number"],
    ["program time (measured)", ".em-number", "what the program itself takes a run, by the kernel's run statistics"],
    ["hook cost (estimated)", ".em-number", "what the hook takes a hit beside the program, from a calibration of this attach kind on this kernel"],
  ]);
  const maps = listing("maps", [["map", ""], ["type", ""], ["entries", ""], ["memory", ".em-number"], ["", ""]]);
  const details = listing("details", [
    ["program", ""],
    ["section", ""],
    ["instructions", ".em-number"],
    ["verified", ".em-number", "instructions the verifier walked through"],
    ["JITed", ".em-number"],
  ]);
  const troubles = h("div.em-troubles");
  const foot = h("div.em-footer");
  const more = h("details.em-more", {}, h("summary", {}, "Details"), details.table);
  const logTitle = h("summary");
  const logText = h("pre");
  const log = h("details.em-more.em-log", { open: true }, logTitle, logText);
  el.append(
    h(
      "div.em-view.em-card",
      {},
      h("div.em-card-head", {}, dot, name, where, hint, stop),
      h("div.em-card-line", {}, stages, cost),
      troubles,
      h("div.em-scroll", {}, programs.table),
      h("div.em-scroll", {}, maps.table),
      log,
      more,
      foot,
    ),
  );

  let pressed = false;
  let slow = 0;
  stop.addEventListener("click", () => {
    pressed = true;
    showStop(latest);
    model.send({ stop: true });
    // Without subshells a busy kernel hears of it when the cell has ended.
    slow = setTimeout(() => say(hint, "stops when the running cell ends"), SLOW_MS);
  });
  let latest = {};

  function showStop(state) {
    const running = state.state === "running";
    if (!running || state.stop_failed || state.stopping) {
      clearTimeout(slow);
      say(hint, "");
    }
    if (!running || state.stop_failed) pressed = false;
    const busy = pressed || state.stopping;
    stop.hidden = !running || !state.can_stop;
    stop.disabled = Boolean(busy);
    say(stop, busy ? "Stopping…" : "Stop");
  }

  function draw(state) {
    latest = state;
    const list = (key) => state[key] ?? [];
    dot.className = `em-dot em-${state.state ?? "stopped"}`;
    say(name, state.name ?? "");
    say(where, ["state", "host", "engine", "message"].map((key) => state[key]).filter(Boolean).join(" · "));
    showStop(state);
    keyed(stages, list("stages"), (stage) => stage.name, () => h("li", {}, h("b"), h("span.em-ms"), h("span.em-detail")), (li, stage) => {
      say(li.children[0], stage.name);
      say(li.children[1], milliseconds(stage.ms));
      say(li.children[2], stage.detail ?? "");
      title(li, [stage.name, milliseconds(stage.ms), stage.detail].filter(Boolean).join(" · "));
    });
    const spent = state.cost ?? {};
    const parts = [["program_share", "program time", "measured"], ["hook_share", "hook cost", "estimated"]]
      .filter(([key]) => isNumber(spent[key]))
      .map(([key, text, how]) => `${text} ${percent(spent[key])} (${how})`);
    say(cost, parts.length ? `${parts.join(" · ")} of one core` : "");
    programs.fill(list("programs"), (row) => [
      [row.name, row.section],
      [row.target || row.section || "", row.section],
      [human(row.runs), row.missed_runs ? `${exact(row.missed_runs)} more were skipped by the kernel` : ""],
      [isNumber(row.runs_per_s) ? `${human(row.runs_per_s)}/s` : "–", ""],
      [[human(row.ns_per_run, "ns"), share(row.cpu_share)].filter(Boolean).join(" · "), isNumber(row.ns_per_run) ? `${exact(row.ns_per_run, "ns")} a run` : ""],
      [isNumber(row.hook_ns_estimate) ? [`≈ ${human(row.hook_ns_estimate, "ns")}`, share(row.hook_share)].filter(Boolean).join(" · ") : "not known", ""],
    ]);
    maps.fill(list("maps"), (row) => [
      [row.name, ""],
      [row.type ?? "", ""],
      [fullness(row), ""],
      [human(row.memory_bytes, "bytes"), exact(row.memory_bytes, "bytes")],
      [noteOf(row), ""],
    ]);
    details.fill(list("programs"), (row) => [
      [row.name, ""],
      [row.section ?? "", ""],
      [human(row.insns), ""],
      [human(row.verified_insns), ""],
      [human(row.jited_bytes, "bytes"), exact(row.jited_bytes, "bytes")],
    ]);
    more.hidden = list("programs").length === 0;
    keyed(troubles, list("troubles"), (text) => text, (text) => h("div.em-warning", {}, text), () => {});
    footer(foot, list("notes"), []);
    const lines = list("log_lines");
    log.hidden = lines.length === 0;
    say(logTitle, `Log · ${lines.length} ${lines.length === 1 ? "line" : "lines"}`);
    const followed = logText.scrollTop + logText.clientHeight >= logText.scrollHeight - 4;
    say(logText, lines.join("\n"));
    if (followed) logText.scrollTop = logText.scrollHeight;
  }

  const unfollow = follow(model, draw);
  return () => {
    clearTimeout(slow);
    unfollow();
  };
}

export default { render };

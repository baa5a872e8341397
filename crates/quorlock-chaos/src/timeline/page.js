// Draws the chart. Spans are [start, duration, state, process, label], in microseconds. Each lane is sorted by start.
// A lane of thousands of spans becomes one path per colour, and spans within one pixel become one rectangle, so that
// a long run can be zoomed and moved quickly.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
if (data) start();

function start() {
  const chart = byId("chart"), lanesSvg = byId("lanes"), axisSvg = byId("axis"), overviewSvg = byId("overview"), tip = byId("tip");
  const total = data.to, minWindow = 200;
  // Logarithms of the shortest and the longest wait, at least a factor of ten apart.
  const logs = data.waits.reduce(([a, b], [, us]) => [Math.min(a, us), Math.max(b, us)], [1e6, 1]).map((us) => Math.log10(Math.max(1, us)));
  const waitRange = [Math.min(Math.floor(logs[0] * 2) / 2, Math.ceil(logs[1]) - 1), Math.ceil(logs[1])];
  let from = 0, to = total, width = 0, gutter = 0, rows = [], drawRequested = false;

  for (const lane of [...data.nodes, ...data.keys, ...data.clients]) {
    lane.spans.sort((a, b) => a[0] - b[0]);
    // The latest end so far, which never decreases, for a binary search.
    let end = 0;
    lane.ends = lane.spans.map((span) => (end = Math.max(end, span[0] + span[1])));
    lane.states = [...new Set(lane.spans.map((span) => span[2]))].sort((a, b) => a - b);
  }

  function layout() {
    width = Math.max(280, lanesSvg.clientWidth || chart.clientWidth);
    gutter = width < 560 ? 70 : 124;
    const roomy = data.clients.length <= 40;
    rows = [];
    let y = 4;
    const section = (title, list, kind, height) => {
      if (!list.length) return;
      rows.push({ title, y: y + 13 });
      y += 19;
      for (const lane of list) {
        rows.push({ lane, kind, y, height });
        y += height + (height > 12 ? 4 : 2);
      }
      y += 7;
    };
    section("Nodes", data.nodes, "node", 18);
    section("Keys and their holders", data.keys, "key", 20);
    section("Clients", data.clients, "client", roomy ? 15 : 9);
    rows.push({ title: "Waits for a lock", y: y + 13 });
    y += 19;
    rows.push({ kind: "waits", y, height: 84 });
    y += 92;
    lanesSvg.setAttribute("height", y);
    for (const svg of [lanesSvg, axisSvg, overviewSvg]) svg.setAttribute("viewBox", `0 0 ${width} ${svg.getAttribute("height")}`);
  }

  const plot = () => width - gutter - 10;
  const x = (at) => gutter + ((at - from) / (to - from)) * plot();
  const time = (px) => from + ((px - gutter) / plot()) * (to - from);
  const seconds = (at) => (at / 1e6).toFixed(to - from < 20_000 ? 4 : to - from < 2_000_000 ? 3 : to - from < 2e7 ? 2 : 1);

  // The index of the first span that may end after this time.
  function firstSpan(lane, at) {
    let low = 0, high = lane.ends.length;
    while (low < high) { const mid = (low + high) >> 1; if (lane.ends[mid] <= at) low = mid + 1; else high = mid; }
    return low;
  }

  // The lane's spans of one state as paths, one for each colour and opacity, and the boxes with room for a label. Adjacent
  // spans of less than 3 pixels become one rectangle. Its opacity shows how much of its time is filled. It is grey if
  // several processes held the key.
  function rectangles(row, state, inset) {
    const paths = new Map(), boxes = [], labels = [];
    const { lane } = row, top = row.y + inset, height = row.height - 2 * inset, right = width - 10, small = 3;
    // A fault or an overlap stays visible, however short.
    const minPixels = state > HOLDING ? small : 1;
    let group = null;
    const addBox = (left, end, process, strength) => {
      const key = `${process} ${strength}`;
      boxes.push([left, end]);
      if (!paths.has(key)) paths.set(key, { process, strength, d: [] });
      paths.get(key).d.push(`M${left.toFixed(1)} ${top}H${end.toFixed(1)}v${height}H${left.toFixed(1)}z`);
    };
    const flush = () => {
      if (!group) return;
      const filled = group.filled / (group.end - group.left);
      addBox(group.left, group.end, group.process, state > HOLDING || filled > 0.75 ? 1 : filled > 0.4 ? 0.75 : 0.5);
      group = null;
    };
    for (let index = firstSpan(lane, from); index < lane.spans.length; index++) {
      const span = lane.spans[index];
      if (span[0] >= to) break;
      if (span[2] !== state || span[0] + span[1] <= from) continue;
      const left = Math.max(gutter, x(span[0])), widthPx = Math.min(right, x(span[0] + span[1])) - left;
      const end = left + Math.max(minPixels, widthPx);
      if (widthPx >= small) {
        flush();
        addBox(left, end, span[3], 1);
        if (widthPx > 24) labels.push([left, end, span]);
      } else if (group && left < group.left + small && left <= group.end + 1) {
        group.end = Math.max(group.end, end);
        group.filled += widthPx;
        if (group.process !== span[3]) group.process = -1;
      } else {
        flush();
        group = { left, end, filled: widthPx, process: span[3] };
      }
    }
    flush();
    return { paths, boxes, labels };
  }

  function drawLane(row, out) {
    const { lane, kind, y, height } = row, middle = y + height / 2 + 4;
    out.push(`<rect x="${gutter}" y="${y}" width="${plot()}" height="${height}" rx="2" fill="var(${kind === "node" ? "--up" : "--row"})"/>`);
    out.push(`<text class="name${height < 12 ? " small" : ""}" x="${gutter - 8}" y="${height < 12 ? middle - 1 : middle}" text-anchor="end">${escapeHtml(fitText(short(lane.name), gutter - 10, gutter < 100 ? 6 : 6.4))}<title>${escapeHtml(lane.name)}</title></text>`);
    const marked = [];
    for (const state of lane.states) {
      if (state === DATA_LOSS && kind === "node") { marked.push({ state, boxes: drawDataLoss(row, out), labels: [] }); continue; }
      const thin = state === WAITING ? height * 0.3 : state === LOST ? height * 0.2 : 0;
      const { paths, boxes, labels } = rectangles(row, state, thin);
      for (const { process, strength, d } of paths.values()) {
        const fill = state > HOLDING ? fillOf(state) : process < 0 ? "var(--several)" : hue(process);
        const opacity = state === WAITING ? "var(--wait)" : strength;
        out.push(`<path d="${d.join("")}" fill="${fill}" style="opacity:${opacity}"/>`);
      }
      marked.push({ state, boxes, labels });
    }
    if (height < 12) return;
    // Labels are placed only where no more important box and no other label is drawn.
    const covered = [];
    for (const { state, boxes, labels } of marked.reverse()) {
      if (state === WAITING) break;
      const tone = state === SLOW ? "pale" : state === PROBATION || state === LOST ? "plain" : "";
      for (const [left, end, span] of labels) {
        const label = labelOf(kind, span), [a, b] = freePart([left, end], covered, label.length * 5.8 + 8), text = fitText(label, b - a - 8, 5.8);
        if (!text) continue;
        out.push(`<text class="label ${tone}" x="${(a + 4).toFixed(1)}" y="${middle - 0.5}">${escapeHtml(text)}</text>`);
        covered.push([a, a + 4 + text.length * 5.8]);
      }
      covered.push(...boxes);
    }
  }

  const short = (name) => (gutter < 100 ? name.replace("client ", "").replace(" → ", "→") : name);

  function labelOf(kind, span) {
    const label = data.labels[span[4]] || "";
    if (kind === "key" && span[2] === HOLDING) return label.replace("held by client ", "").replace(/, number.*/, "");
    if (kind === "client" && span[2] === HOLDING) return label.replace(/^client \S+ holds /, "").replace(/, number.*/, "");
    if (kind === "client" && span[2] === LOST) return "lost";
    if (span[2] === OVERLAP || span[2] === EXPECTED_OVERLAP) return label.replace(/client /g, "").replace(" and ", " + ").replace(" at once", "");
    return label.replace(/^client \d+: (client-)?/, "").replace(/:.*/, "");
  }

  // Data loss takes no time: a diamond.
  function drawDataLoss(row, out) {
    const middle = row.y + row.height / 2, d = [], boxes = [], widthPx = gutter < 100 ? 4 : 6;
    let last = -9;
    for (let index = firstSpan(row.lane, from - 1); index < row.lane.spans.length; index++) {
      const span = row.lane.spans[index];
      if (span[0] > to) break;
      const at = x(span[0]);
      if (span[2] !== DATA_LOSS || span[0] < from || at < last + 2) continue;
      last = at;
      d.push(`M${at.toFixed(1)} ${middle - 8}l${widthPx} 8l-${widthPx} 8l-${widthPx} -8z`);
      boxes.push([at - widthPx - 1, at + widthPx]);
    }
    out.push(`<path d="${d.join("")}" fill="var(--data-loss)" stroke="var(--card)" stroke-width="1.2"/>`);
    return boxes;
  }

  function drawWaits(row, out) {
    const { y, height } = row, [low, high] = waitRange;
    const at = (us) => y + height - 3 - ((Math.log10(Math.max(us, 1)) - low) / (high - low)) * (height - 6);
    out.push(`<rect x="${gutter}" y="${y}" width="${plot()}" height="${height}" rx="2" fill="var(--row)"/>`);
    for (const [us, name] of [[1e2, "0.1 ms"], [1e3, "1 ms"], [1e4, "10 ms"], [1e5, "100 ms"], [1e6, "1 s"], [1e7, "10 s"]]) {
      if (Math.log10(us) < low || Math.log10(us) > high) continue;
      out.push(`<path d="M${gutter} ${at(us).toFixed(1)}h${plot()}" stroke="var(--line)"/><text x="${gutter - 8}" y="${(at(us) + 4).toFixed(1)}" text-anchor="end">${name}</text>`);
    }
    // Each column has a line from the shortest to the longest wait, and a dot on the longest.
    const columns = new Map();
    let lowIndex = 0, highIndex = data.waits.length;
    while (lowIndex < highIndex) { const mid = (lowIndex + highIndex) >> 1; if (data.waits[mid][0] < from) lowIndex = mid + 1; else highIndex = mid; }
    for (let index = lowIndex; index < data.waits.length && data.waits[index][0] <= to; index++) {
      const [when, us] = data.waits[index], column = Math.round(x(when) / 2) * 2;
      const found = columns.get(column);
      if (found) { found[0] = Math.min(found[0], us); found[1] = Math.max(found[1], us); } else columns.set(column, [us, us]);
    }
    const lines = [], dots = [];
    for (const [column, [shortest, longest]] of columns) {
      if (longest > shortest * 1.02) lines.push(`M${column} ${at(shortest).toFixed(1)}V${at(longest).toFixed(1)}`);
      dots.push(`M${column - 1.6} ${at(longest).toFixed(1)}a1.6 1.6 0 1 0 3.2 0a1.6 1.6 0 1 0 -3.2 0`);
    }
    out.push(`<path d="${lines.join("")}" stroke="var(--focus)" stroke-width="1.4" opacity=".35"/><path d="${dots.join("")}" fill="var(--focus)"/>`);
  }

  function draw() {
    drawRequested = false;
    const height = Number(lanesSvg.getAttribute("height")), out = [PATTERNS];
    for (const row of rows) if (row.lane) drawLane(row, out); else if (row.kind === "waits") drawWaits(row, out);
    for (const [a, b] of data.outages) {
      if (b <= from || a >= to) continue;
      const left = Math.max(gutter, x(a)), end = Math.min(width - 10, x(b));
      out.push(`<rect x="${left}" y="0" width="${Math.max(1, end - left)}" height="${height}" fill="var(--outage)" pointer-events="none"/>`);
      if (end - left > 60) out.push(`<text x="${left + 5}" y="16" style="fill:var(--bad)">no quorum</text>`);
    }
    for (const row of rows) if (row.title) out.push(`<text class="head" x="10" y="${row.y}">${row.title}</text>`);
    const lines = [];
    for (const at of data.violations) if (at >= from && at <= to && !(x(at) < lines.at(-1) + 1.5)) lines.push(x(at));
    // Many lines are drawn pale, because they would hide the lanes.
    const strength = lines.length > 20 ? 0.45 : 1;
    out.push(`<path d="${lines.map((px) => `M${px.toFixed(1)} 0V${height}`).join("")}" stroke="var(--bad)" stroke-width="1.5" opacity="${strength}" pointer-events="none"/>`);
    out.push(`<rect id="band" y="0" height="${height}" fill="var(--soft)" opacity=".12" pointer-events="none" display="none"/>`);
    lanesSvg.innerHTML = out.join("");
    drawAxis();
    drawOverview();
    byId("window").textContent = `${seconds(from)} s to ${seconds(to)} s` + (width < 560 ? "" : ` (${formatDuration(Math.round(to - from))})`);
  }

  function drawAxis() {
    const goal = (to - from) / Math.max(2, plot() / 75), power = 10 ** Math.floor(Math.log10(goal));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= goal), out = [];
    for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
      const digits = Math.max(0, 6 - Math.floor(Math.log10(step) + 1e-9)), px = x(at).toFixed(1);
      const anchor = px > width - 40 ? "end" : px < gutter + 20 ? "start" : "middle";
      out.push(`<path d="M${px} 16v6" stroke="var(--soft)"/><text x="${px}" y="12" text-anchor="${anchor}">${(at / 1e6).toFixed(Math.min(digits, 6))} s</text>`);
    }
    axisSvg.innerHTML = out.join("");
  }

  let overviewBase = "";
  function drawOverview() {
    const at = (us) => gutter + (us / total) * plot(), height = 46;
    if (!overviewBase) {
      const bins = new Array(Math.ceil(plot() / 2) + 1).fill(0), out = [];
      for (const [when] of data.waits) bins[Math.floor(((when / total) * plot()) / 2)]++;
      const maxBin = Math.max(1, ...bins);
      out.push(`<rect x="${gutter}" y="4" width="${plot()}" height="38" rx="3" fill="var(--row)"/>`);
      out.push(`<text x="${gutter - 8}" y="27" text-anchor="end">grants</text>`);
      const d = bins.map((n, index) => (n ? `M${gutter + index * 2} 42v${(-36 * Math.sqrt(n / maxBin)).toFixed(1)}h2V42z` : "")).join("");
      out.push(`<path d="${d}" fill="var(--soft)" opacity=".55"/>`);
      for (const [a, b] of data.outages) out.push(`<rect x="${at(a)}" y="4" width="${Math.max(1, at(b) - at(a))}" height="38" fill="var(--bad)" opacity=".2"/>`);
      let last = -9;
      for (const when of data.violations) {
        if (at(when) < last + 1) continue;
        last = at(when);
        out.push(`<path d="M${last.toFixed(1)} 4V42M${(last - 5).toFixed(1)} 0h10l-5 7z" stroke="var(--bad)" stroke-width="1.5" fill="var(--bad)"/>`);
      }
      overviewBase = out.join("");
    }
    const left = at(from), end = at(to), shade = 'fill="var(--paper)" opacity=".72"';
    overviewSvg.innerHTML = overviewBase + (to - from < total * 0.999
      ? `<rect x="${gutter}" y="3" width="${left - gutter}" height="40" ${shade}/><rect x="${end}" y="3" width="${width - 10 - end}" height="40" ${shade}/>` +
        `<rect x="${left}" y="3" width="${Math.max(3, end - left)}" height="${height - 6}" rx="3" fill="none" stroke="var(--focus)" stroke-width="1.6"/>` : "");
  }

  function setWindow(a, b) {
    const duration = Math.min(total, Math.max(minWindow, b - a));
    from = Math.min(Math.max(0, (a + b - duration) / 2), total - duration);
    to = from + duration;
    tip.hidden = true;
    if (!drawRequested) { drawRequested = true; requestAnimationFrame(draw); }
  }
  function zoom(factor, px) {
    const at = time(px === undefined ? gutter + plot() / 2 : px), part = (at - from) / (to - from);
    const duration = Math.min(total, Math.max(minWindow, (to - from) * factor)), start = Math.min(Math.max(0, at - part * duration), total - duration);
    setWindow(start, start + duration);
  }
  const move = (part) => { const by = (to - from) * part, a = Math.min(Math.max(0, from + by), total - (to - from)); setWindow(a, a + (to - from)); };

  lanesSvg.addEventListener("wheel", (event) => {
    const across = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
    // When the whole run is visible, scrolling out scrolls the page.
    if (!across && event.deltaY > 0 && to - from >= total) return;
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : 1;
    if (across) move(((event.shiftKey ? event.deltaY || event.deltaX : event.deltaX) * unit) / plot());
    else zoom(Math.exp(event.deltaY * unit * 0.0016), event.clientX - lanesSvg.getBoundingClientRect().left);
  }, { passive: false });

  // One pointer drags, two pointers zoom.
  const pointers = new Map();
  let moved = 0;
  const inside = (event) => event.clientX - lanesSvg.getBoundingClientRect().left;
  lanesSvg.addEventListener("pointerdown", (event) => { pointers.set(event.pointerId, inside(event)); moved = 0; });
  lanesSvg.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) { if (event.pointerType === "mouse") showTip(event); return; }
    const before = pointers.get(event.pointerId), now = inside(event);
    moved += Math.abs(now - before);
    if (moved > 3 && !lanesSvg.hasPointerCapture(event.pointerId)) { lanesSvg.setPointerCapture(event.pointerId); lanesSvg.classList.add("dragging"); }
    if (pointers.size === 2) {
      const other = [...held].find(([id]) => id !== event.pointerId)[1];
      zoom(Math.max(20, Math.abs(before - other)) / Math.max(20, Math.abs(now - other)), other);
    } else move((before - now) / plot());
    pointers.set(event.pointerId, now);
  });
  for (const end of ["pointerup", "pointercancel"]) lanesSvg.addEventListener(end, (event) => {
    pointers.delete(event.pointerId);
    lanesSvg.classList.remove("dragging");
    if (end === "pointerup" && moved <= 3) showTip(event);
  });
  // A lifted finger also sends this event; then the details must stay readable.
  lanesSvg.addEventListener("pointerleave", (event) => { if (!pointers.size && event.pointerType === "mouse") hideTip(); });
  const hideTip = () => { tip.hidden = true; byId("band")?.setAttribute("display", "none"); };

  // Shows the spans under the pointer, the most important first.
  function showTip(event) {
    const box = lanesSvg.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
    const row = rows.find((row) => row.lane && py >= row.y - 1 && py <= row.y + row.height + 2);
    if (!row || px < gutter) { hideTip(); return; }
    const near = ((to - from) / plot()) * 3, at = time(px), lines = [], found = [];
    for (let index = firstSpan(row.lane, at - near); index < row.lane.spans.length; index++) {
      const span = row.lane.spans[index];
      if (span[0] > at + near) break;
      if (span[0] + span[1] >= at - near || (span[2] === DATA_LOSS && Math.abs(x(span[0]) - px) < 7)) found.push(span);
    }
    found.sort((a, b) => b[2] - a[2]);
    for (const span of found.slice(0, 5)) {
      const label = span[2] === DATA_LOSS ? `${data.labels[span[4]]} (data loss)` : data.labels[span[4]] || STATES[span[2]][0];
      lines.push(`${label}\n${(span[0] / 1e6).toFixed(4)} s, for ${formatDuration(span[1])}`);
    }
    if (found.length > 5) lines.push(`and ${found.length - 5} more: zoom in`);
    if (!lines.length) lines.push(`${row.lane.name}: ${row.kind === "node" ? "up" : row.kind === "key" ? "free" : "idle"}\n${(at / 1e6).toFixed(4)} s`);
    const band = byId("band"), left = found.length ? Math.max(gutter, x(found[0][0])) : 0;
    band.setAttribute("display", found.length ? "inline" : "none");
    if (found.length) {
      band.setAttribute("x", left);
      band.setAttribute("width", Math.max(1, Math.min(width - 10, x(found[0][0] + found[0][1])) - left));
    }
    tip.textContent = lines.join("\n");
    tip.hidden = false;
    const outer = chart.getBoundingClientRect(), widthPx = tip.offsetWidth, heightPx = tip.offsetHeight;
    tip.style.left = Math.min(Math.max(4, event.clientX - outer.left + 14), outer.width - widthPx - 6) + "px";
    const below = event.clientY - outer.top + 16;
    tip.style.top = (below + heightPx > outer.height - 4 ? event.clientY - outer.top - heightPx - 12 : below) + "px";
  }

  const moveOverviewTo = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const px = event.clientX - overviewSvg.getBoundingClientRect().left, at = ((px - gutter) / plot()) * total, half = (to - from) / 2;
    const middle = Math.min(Math.max(half, at), total - half);
    setWindow(middle - half, middle + half);
  };
  overviewSvg.addEventListener("pointerdown", (event) => { overviewSvg.setPointerCapture(event.pointerId); if (to - from >= total * 0.999) { const part = total / 8; from = 0; to = part; } moveOverviewTo(event); });
  overviewSvg.addEventListener("pointermove", moveOverviewTo);

  const jumpTo = (at) => { const half = Math.min(total, 2_000_000) / 2; setWindow(at - half, at + half); chart.scrollIntoView({ block: "start" }); };
  const jumpToViolation = (direction) => {
    const middle = (from + to) / 2, target = direction > 0 ? data.violations.find((at) => at > middle + 1) : data.violations.findLast((at) => at < middle - 1);
    if (target !== undefined) jumpTo(target);
  };
  byId("in").onclick = () => zoom(0.5);
  byId("out").onclick = () => zoom(2);
  byId("all").onclick = () => setWindow(0, total);
  byId("next").onclick = () => jumpToViolation(1);
  byId("previous").onclick = () => jumpToViolation(-1);
  byId("next").hidden = byId("previous").hidden = !data.violations.length;
  for (const button of document.querySelectorAll("[data-micros]")) button.onclick = () => jumpTo(Number(button.dataset.micros));
  lanesSvg.addEventListener("keydown", (event) => {
    const action = { "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1.6), "−": () => zoom(1.6), ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), 0: () => setWindow(0, total), n: () => jumpToViolation(1), p: () => jumpToViolation(-1) }[event.key];
    if (action && !event.ctrlKey && !event.metaKey) { event.preventDefault(); action(); }
  });
  byId("copy").onclick = async () => {
    const code = byId("replay");
    try { await navigator.clipboard.writeText(code.textContent); byId("copy").textContent = "copied"; }
    catch { getSelection().selectAllChildren(code); }
  };

  function legend() {
    const used = new Set([...data.nodes, ...data.clients, ...data.keys].flatMap((lane) => lane.states)), out = [];
    const swatch = (fill, name, opacity = 1) => out.push(`<span><svg viewBox="0 0 15 11" aria-hidden="true"><rect width="15" height="11" fill="${fill}" opacity="${opacity}"/></svg>${name}</span>`);
    swatch("var(--up)", "up");
    STATES.forEach(([name], state) => {
      if (state === DATA_LOSS && used.has(state)) out.push(`<span><svg viewBox="0 0 15 11" aria-hidden="true"><path d="M7.5 0l5 5.5l-5 5.5l-5 -5.5z" fill="var(--data-loss)"/></svg>${name}</span>`);
      else if (state > HOLDING && used.has(state)) swatch(fillOf(state), name);
    });
    swatch(hue(1), "holding: a colour for each process");
    swatch("var(--several)", "several in sequence: zoom in");
    swatch(hue(1), "waiting", 0.45);
    if (data.outages.length) swatch("var(--bad)", "no quorum", 0.2);
    if (data.violations.length) out.push(`<span><svg viewBox="0 0 15 11" aria-hidden="true"><path d="M7.5 0V11M4 0h7l-3.5 5z" stroke="var(--bad)" stroke-width="1.5" fill="var(--bad)"/></svg>violation</span>`);
    byId("legend").innerHTML = out.join("");
  }

  new ResizeObserver(() => { if (Math.abs((lanesSvg.clientWidth || 0) - width) > 1) { overviewBase = ""; layout(); draw(); } }).observe(chart);
  layout();
  legend();
  const linkedWindow = /^#t=([\d.]+)-([\d.]+)$/.exec(location.hash);
  if (linkedWindow) setWindow(linkedWindow[1] * 1e6, linkedWindow[2] * 1e6);
  draw();
}

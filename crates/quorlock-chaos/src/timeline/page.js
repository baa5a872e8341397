// Draws the picture. Spans are [from, length, state, process, words], in microseconds, each lane in order of beginnings.
// A lane of thousands of spans becomes one path per colour, and what falls within one pixel becomes one rectangle,
// so that a long run stays quick to move through.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
if (data) start();

function start() {
  const board = byId("board"), lanesSvg = byId("lanes"), axisSvg = byId("axis"), overSvg = byId("over"), tip = byId("tip");
  const whole = data.to, least = 200;
  // Logarithms of the shortest and the longest wait, at least a factor of ten apart.
  const logs = data.waits.reduce(([a, b], [, us]) => [Math.min(a, us), Math.max(b, us)], [1e6, 1]).map((us) => Math.log10(Math.max(1, us)));
  const waitRange = [Math.min(Math.floor(logs[0] * 2) / 2, Math.ceil(logs[1]) - 1), Math.ceil(logs[1])];
  let from = 0, to = whole, width = 0, gutter = 0, rows = [], asked = false;

  for (const lane of [...data.nodes, ...data.keys, ...data.clients]) {
    lane.spans.sort((a, b) => a[0] - b[0]);
    // How far back a span may reach in from: the ends so far, ever growing.
    let end = 0;
    lane.ends = lane.spans.map((span) => (end = Math.max(end, span[0] + span[1])));
    lane.states = [...new Set(lane.spans.map((span) => span[2]))].sort((a, b) => a - b);
  }

  function layout() {
    width = Math.max(280, lanesSvg.clientWidth || board.clientWidth);
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
    section("Keys: who holds", data.keys, "key", 20);
    section("Clients", data.clients, "client", roomy ? 15 : 9);
    rows.push({ title: "Waits for a lock", y: y + 13 });
    y += 19;
    rows.push({ kind: "waits", y, height: 84 });
    y += 92;
    lanesSvg.setAttribute("height", y);
    for (const svg of [lanesSvg, axisSvg, overSvg]) svg.setAttribute("viewBox", `0 0 ${width} ${svg.getAttribute("height")}`);
  }

  const plot = () => width - gutter - 10;
  const x = (at) => gutter + ((at - from) / (to - from)) * plot();
  const time = (px) => from + ((px - gutter) / plot()) * (to - from);
  const seconds = (at) => (at / 1e6).toFixed(to - from < 20_000 ? 4 : to - from < 2_000_000 ? 3 : to - from < 2e7 ? 2 : 1);

  // The first span that may reach into the window: all before it have ended.
  function first(lane, at) {
    let low = 0, high = lane.ends.length;
    while (low < high) { const mid = (low + high) >> 1; if (lane.ends[mid] <= at) low = mid + 1; else high = mid; }
    return low;
  }

  // The lane's spans of one state as paths, one for each colour and strength, and where there is room for words. Spans too
  // short to see alone become one rectangle of a few pixels: as strong as its time is filled, and grey where a key
  // passed between processes.
  function rectangles(row, state, inset) {
    const paths = new Map(), boxes = [], labels = [];
    const { lane } = row, top = row.y + inset, height = row.height - 2 * inset, right = width - 10, small = 3;
    // A fault or an overlap of an instant is to be seen as well.
    const narrowest = state > HOLDING ? small : 1;
    let group = null;
    const put = (left, end, process, strength) => {
      const key = `${process} ${strength}`;
      boxes.push([left, end]);
      if (!paths.has(key)) paths.set(key, { process, strength, d: [] });
      paths.get(key).d.push(`M${left.toFixed(1)} ${top}H${end.toFixed(1)}v${height}H${left.toFixed(1)}z`);
    };
    const flush = () => {
      if (!group) return;
      const filled = group.filled / (group.end - group.left);
      put(group.left, group.end, group.process, state > HOLDING || filled > 0.75 ? 1 : filled > 0.4 ? 0.75 : 0.5);
      group = null;
    };
    for (let place = first(lane, from); place < lane.spans.length; place++) {
      const span = lane.spans[place];
      if (span[0] >= to) break;
      if (span[2] !== state || span[0] + span[1] <= from) continue;
      const left = Math.max(gutter, x(span[0])), wide = Math.min(right, x(span[0] + span[1])) - left;
      const end = left + Math.max(narrowest, wide);
      if (wide >= small) {
        flush();
        put(left, end, span[3], 1);
        if (wide > 24) labels.push([left, end, span]);
      } else if (group && left < group.left + small && left <= group.end + 1) {
        group.end = Math.max(group.end, end);
        group.filled += wide;
        if (group.process !== span[3]) group.process = -1;
      } else {
        flush();
        group = { left, end, filled: wide, process: span[3] };
      }
    }
    flush();
    return { paths, boxes, labels };
  }

  function drawLane(row, out) {
    const { lane, kind, y, height } = row, middle = y + height / 2 + 4;
    out.push(`<rect x="${gutter}" y="${y}" width="${plot()}" height="${height}" rx="2" fill="var(${kind === "node" ? "--up" : "--row"})"/>`);
    out.push(`<text class="name${height < 12 ? " small" : ""}" x="${gutter - 8}" y="${height < 12 ? middle - 1 : middle}" text-anchor="end">${safe(fits(short(lane.name), gutter - 10, gutter < 100 ? 6 : 6.4))}<title>${safe(lane.name)}</title></text>`);
    const marked = [];
    for (const state of lane.states) {
      if (state === DATA_LOSS && kind === "node") { marked.push({ state, boxes: drawForgot(row, out), labels: [] }); continue; }
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
    // Words stand only where nothing more important is drawn, nor other words.
    const upon = [];
    for (const { state, boxes, labels } of marked.reverse()) {
      if (state === WAITING) break;
      const tone = state === SLOW ? "pale" : state === PROBATION || state === LOST ? "plain" : "";
      for (const [left, end, span] of labels) {
        const words = labelOf(kind, span), [a, b] = bare([left, end], upon, words.length * 5.8 + 8), text = fits(words, b - a - 8, 5.8);
        if (!text) continue;
        out.push(`<text class="on ${tone}" x="${(a + 4).toFixed(1)}" y="${middle - 0.5}">${safe(text)}</text>`);
        upon.push([a, a + 4 + text.length * 5.8]);
      }
      upon.push(...boxes);
    }
  }

  const short = (name) => (gutter < 100 ? name.replace("client ", "").replace(" → ", "→") : name);

  function labelOf(kind, span) {
    const words = data.words[span[4]] || "";
    if (kind === "key" && span[2] === HOLDING) return words.replace("held by client ", "").replace(/, number.*/, "");
    if (kind === "client" && span[2] === HOLDING) return words.replace(/^client \S+ holds /, "").replace(/, number.*/, "");
    if (kind === "client" && span[2] === LOST) return "lost";
    if (span[2] === OVERLAP || span[2] === EXPECTED_OVERLAP) return words.replace(/client /g, "").replace(" and ", " + ").replace(" at once", "");
    return words.replace(/^client \d+: (client-)?/, "").replace(/:.*/, "");
  }

  // A node forgets in an instant: a diamond.
  function drawForgot(row, out) {
    const middle = row.y + row.height / 2, d = [], boxes = [], wide = gutter < 100 ? 4 : 6;
    let last = -9;
    for (let place = first(row.lane, from - 1); place < row.lane.spans.length; place++) {
      const span = row.lane.spans[place];
      if (span[0] > to) break;
      const at = x(span[0]);
      if (span[2] !== DATA_LOSS || span[0] < from || at < last + 2) continue;
      last = at;
      d.push(`M${at.toFixed(1)} ${middle - 8}l${wide} 8l-${wide} 8l-${wide} -8z`);
      boxes.push([at - wide - 1, at + wide]);
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
    // In each column from the shortest to the longest wait, and a dot on the longest.
    const columns = new Map();
    let low_ = 0, high_ = data.waits.length;
    while (low_ < high_) { const mid = (low_ + high_) >> 1; if (data.waits[mid][0] < from) low_ = mid + 1; else high_ = mid; }
    for (let place = low_; place < data.waits.length && data.waits[place][0] <= to; place++) {
      const [when, us] = data.waits[place], column = Math.round(x(when) / 2) * 2;
      const found = columns.get(column);
      if (found) { found[0] = Math.min(found[0], us); found[1] = Math.max(found[1], us); } else columns.set(column, [us, us]);
    }
    const lines = [], dots = [];
    for (const [column, [least_, most]] of columns) {
      if (most > least_ * 1.02) lines.push(`M${column} ${at(least_).toFixed(1)}V${at(most).toFixed(1)}`);
      dots.push(`M${column - 1.6} ${at(most).toFixed(1)}a1.6 1.6 0 1 0 3.2 0a1.6 1.6 0 1 0 -3.2 0`);
    }
    out.push(`<path d="${lines.join("")}" stroke="var(--focus)" stroke-width="1.4" opacity=".35"/><path d="${dots.join("")}" fill="var(--focus)"/>`);
  }

  function draw() {
    asked = false;
    const height = Number(lanesSvg.getAttribute("height")), out = [PATTERNS];
    for (const row of rows) if (row.lane) drawLane(row, out); else if (row.kind === "waits") drawWaits(row, out);
    for (const [a, b] of data.outages) {
      if (b <= from || a >= to) continue;
      const left = Math.max(gutter, x(a)), end = Math.min(width - 10, x(b));
      out.push(`<rect x="${left}" y="0" width="${Math.max(1, end - left)}" height="${height}" fill="var(--outage)" pointer-events="none"/>`);
      if (end - left > 60) out.push(`<text x="${left + 5}" y="16" style="fill:var(--bad)">no quorum</text>`);
    }
    for (const row of rows) if (row.title) out.push(`<text class="head" x="10" y="${row.y}">${row.title}</text>`);
    const broken = [];
    for (const at of data.broken) if (at >= from && at <= to && !(x(at) < broken.at(-1) + 1.5)) broken.push(x(at));
    // Many lines must not hide what they point at.
    const strength = broken.length > 20 ? 0.45 : 1;
    out.push(`<path d="${broken.map((px) => `M${px.toFixed(1)} 0V${height}`).join("")}" stroke="var(--bad)" stroke-width="1.5" opacity="${strength}" pointer-events="none"/>`);
    out.push(`<rect id="band" y="0" height="${height}" fill="var(--soft)" opacity=".12" pointer-events="none" display="none"/>`);
    lanesSvg.innerHTML = out.join("");
    drawAxis();
    drawOver();
    byId("window").textContent = `${seconds(from)} s to ${seconds(to)} s` + (width < 560 ? "" : ` (${length(Math.round(to - from))})`);
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

  let overBase = "";
  function drawOver() {
    const at = (us) => gutter + (us / whole) * plot(), height = 46;
    if (!overBase) {
      const bins = new Array(Math.ceil(plot() / 2) + 1).fill(0), out = [];
      for (const [when] of data.waits) bins[Math.floor(((when / whole) * plot()) / 2)]++;
      const most = Math.max(1, ...bins);
      out.push(`<rect x="${gutter}" y="4" width="${plot()}" height="38" rx="3" fill="var(--row)"/>`);
      out.push(`<text x="${gutter - 8}" y="27" text-anchor="end">grants</text>`);
      const d = bins.map((n, place) => (n ? `M${gutter + place * 2} 42v${(-36 * Math.sqrt(n / most)).toFixed(1)}h2V42z` : "")).join("");
      out.push(`<path d="${d}" fill="var(--soft)" opacity=".55"/>`);
      for (const [a, b] of data.outages) out.push(`<rect x="${at(a)}" y="4" width="${Math.max(1, at(b) - at(a))}" height="38" fill="var(--bad)" opacity=".2"/>`);
      let last = -9;
      for (const when of data.broken) {
        if (at(when) < last + 1) continue;
        last = at(when);
        out.push(`<path d="M${last.toFixed(1)} 4V42M${(last - 5).toFixed(1)} 0h10l-5 7z" stroke="var(--bad)" stroke-width="1.5" fill="var(--bad)"/>`);
      }
      overBase = out.join("");
    }
    const left = at(from), end = at(to), shade = 'fill="var(--paper)" opacity=".72"';
    overSvg.innerHTML = overBase + (to - from < whole * 0.999
      ? `<rect x="${gutter}" y="3" width="${left - gutter}" height="40" ${shade}/><rect x="${end}" y="3" width="${width - 10 - end}" height="40" ${shade}/>` +
        `<rect x="${left}" y="3" width="${Math.max(3, end - left)}" height="${height - 6}" rx="3" fill="none" stroke="var(--focus)" stroke-width="1.6"/>` : "");
  }

  function show(a, b) {
    const long = Math.min(whole, Math.max(least, b - a));
    from = Math.min(Math.max(0, (a + b - long) / 2), whole - long);
    to = from + long;
    tip.hidden = true;
    if (!asked) { asked = true; requestAnimationFrame(draw); }
  }
  function zoom(factor, px) {
    const at = time(px === undefined ? gutter + plot() / 2 : px), part = (at - from) / (to - from);
    const long = Math.min(whole, Math.max(least, (to - from) * factor)), start = Math.min(Math.max(0, at - part * long), whole - long);
    show(start, start + long);
  }
  const move = (part) => { const by = (to - from) * part, a = Math.min(Math.max(0, from + by), whole - (to - from)); show(a, a + (to - from)); };

  lanesSvg.addEventListener("wheel", (event) => {
    const across = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
    // Where there is nothing more to zoom out of, the page scrolls on.
    if (!across && event.deltaY > 0 && to - from >= whole) return;
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : 1;
    if (across) move(((event.shiftKey ? event.deltaY || event.deltaX : event.deltaX) * unit) / plot());
    else zoom(Math.exp(event.deltaY * unit * 0.0016), event.clientX - lanesSvg.getBoundingClientRect().left);
  }, { passive: false });

  // One pointer drags, two pinch.
  const held = new Map();
  let moved = 0;
  const inside = (event) => event.clientX - lanesSvg.getBoundingClientRect().left;
  lanesSvg.addEventListener("pointerdown", (event) => { held.set(event.pointerId, inside(event)); moved = 0; });
  lanesSvg.addEventListener("pointermove", (event) => {
    if (!held.has(event.pointerId)) { if (event.pointerType === "mouse") point(event); return; }
    const before = held.get(event.pointerId), now = inside(event);
    moved += Math.abs(now - before);
    if (moved > 3 && !lanesSvg.hasPointerCapture(event.pointerId)) { lanesSvg.setPointerCapture(event.pointerId); lanesSvg.classList.add("drags"); }
    if (held.size === 2) {
      const other = [...held].find(([id]) => id !== event.pointerId)[1];
      zoom(Math.max(20, Math.abs(before - other)) / Math.max(20, Math.abs(now - other)), other);
    } else move((before - now) / plot());
    held.set(event.pointerId, now);
  });
  for (const end of ["pointerup", "pointercancel"]) lanesSvg.addEventListener(end, (event) => {
    held.delete(event.pointerId);
    lanesSvg.classList.remove("drags");
    if (end === "pointerup" && moved <= 3) point(event);
  });
  // A finger leaves when it is lifted; the details that it pointed at must stay readable then.
  lanesSvg.addEventListener("pointerleave", (event) => { if (!held.size && event.pointerType === "mouse") hush(); });
  const hush = () => { tip.hidden = true; byId("band")?.setAttribute("display", "none"); };

  // What lies under the pointer, the most important last drawn.
  function point(event) {
    const box = lanesSvg.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
    const row = rows.find((row) => row.lane && py >= row.y - 1 && py <= row.y + row.height + 2);
    if (!row || px < gutter) { hush(); return; }
    const near = ((to - from) / plot()) * 3, at = time(px), lines = [], found = [];
    for (let place = first(row.lane, at - near); place < row.lane.spans.length; place++) {
      const span = row.lane.spans[place];
      if (span[0] > at + near) break;
      if (span[0] + span[1] >= at - near || (span[2] === DATA_LOSS && Math.abs(x(span[0]) - px) < 7)) found.push(span);
    }
    found.sort((a, b) => b[2] - a[2]);
    for (const span of found.slice(0, 5)) {
      const what = span[2] === DATA_LOSS ? `${data.words[span[4]]} (forgets)` : data.words[span[4]] || STATES[span[2]][0];
      lines.push(`${what}\n${(span[0] / 1e6).toFixed(4)} s, for ${length(span[1])}`);
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
    const outer = board.getBoundingClientRect(), wide = tip.offsetWidth, high = tip.offsetHeight;
    tip.style.left = Math.min(Math.max(4, event.clientX - outer.left + 14), outer.width - wide - 6) + "px";
    const below = event.clientY - outer.top + 16;
    tip.style.top = (below + high > outer.height - 4 ? event.clientY - outer.top - high - 12 : below) + "px";
  }

  const overTo = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const px = event.clientX - overSvg.getBoundingClientRect().left, at = ((px - gutter) / plot()) * whole, half = (to - from) / 2;
    const middle = Math.min(Math.max(half, at), whole - half);
    show(middle - half, middle + half);
  };
  overSvg.addEventListener("pointerdown", (event) => { overSvg.setPointerCapture(event.pointerId); if (to - from >= whole * 0.999) { const part = whole / 8; from = 0; to = part; } overTo(event); });
  overSvg.addEventListener("pointermove", overTo);

  const jump = (at) => { const half = Math.min(whole, 2_000_000) / 2; show(at - half, at + half); board.scrollIntoView({ block: "start" }); };
  const step = (by) => {
    const middle = (from + to) / 2, ahead = by > 0 ? data.broken.find((at) => at > middle + 1) : data.broken.findLast((at) => at < middle - 1);
    if (ahead !== undefined) jump(ahead);
  };
  byId("in").onclick = () => zoom(0.5);
  byId("out").onclick = () => zoom(2);
  byId("all").onclick = () => show(0, whole);
  byId("next").onclick = () => step(1);
  byId("previous").onclick = () => step(-1);
  byId("next").hidden = byId("previous").hidden = !data.broken.length;
  for (const button of document.querySelectorAll("[data-micros]")) button.onclick = () => jump(Number(button.dataset.micros));
  lanesSvg.addEventListener("keydown", (event) => {
    const act = { "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1.6), "−": () => zoom(1.6), ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), 0: () => show(0, whole), n: () => step(1), p: () => step(-1) }[event.key];
    if (act && !event.ctrlKey && !event.metaKey) { event.preventDefault(); act(); }
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
    swatch("var(--several)", "several in turn: zoom in");
    swatch(hue(1), "waiting", 0.45);
    if (data.outages.length) swatch("var(--bad)", "no quorum", 0.2);
    if (data.broken.length) out.push(`<span><svg viewBox="0 0 15 11" aria-hidden="true"><path d="M7.5 0V11M4 0h7l-3.5 5z" stroke="var(--bad)" stroke-width="1.5" fill="var(--bad)"/></svg>violation</span>`);
    byId("legend").innerHTML = out.join("");
  }

  new ResizeObserver(() => { if (Math.abs((lanesSvg.clientWidth || 0) - width) > 1) { overBase = ""; layout(); draw(); } }).observe(board);
  layout();
  legend();
  const wanted = /^#t=([\d.]+)-([\d.]+)$/.exec(location.hash);
  if (wanted) show(wanted[1] * 1e6, wanted[2] * 1e6);
  draw();
}

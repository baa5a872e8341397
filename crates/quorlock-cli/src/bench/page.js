// Draws the three plots from the data in the page, and shows the values under the pointer. Plots follow the window width.
const data = JSON.parse(document.getElementById("data").textContent);
const { chart } = data;
const HUES = [212, 28, 158, 300, 92, 348, 188, 52, 262];
const hue = (index) => `hsl(${HUES[index % HUES.length]} var(--chroma) var(--light))`;
const safe = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const span = (us) => (us >= 1e6 ? (us / 1e6).toFixed(2) + " s" : us >= 1e5 ? (us / 1e3).toFixed(0) + " ms" : us >= 1e4 ? (us / 1e3).toFixed(1) + " ms" : (us / 1e3).toFixed(us < 100 ? 3 : 2) + " ms");
const tick = (us) => (us >= 1e6 ? us / 1e6 + " s" : us / 1e3 + " ms");
const DASHES = ["", "", "7 4", "7 4"];

for (const mark of document.querySelectorAll("[data-node]")) mark.style.background = hue(Number(mark.dataset.node));

// The range of the values, rounded outwards to 1, 2 or 5 times a power of ten.
function range(values) {
  const real = values.filter((us) => us > 0);
  if (!real.length) return [100, 1000];
  const steps = (us, up) => {
    const power = 10 ** Math.floor(Math.log10(us)), all = [1, 2, 5, 10].map((n) => n * power);
    return up ? all.find((n) => n >= us * 0.999) : all.findLast((n) => n <= us * 1.001);
  };
  const low = steps(Math.min(...real), false), high = steps(Math.max(...real), true);
  return [low, Math.max(high, low * 5)];
}

// Draws one plot. The vertical axis has times on a logarithmic scale; `x` describes the horizontal axis.
function plot(id, height, values, x, marks, draw, legend, valuesAt) {
  const box = document.getElementById(id);
  box.innerHTML = `<svg role="img"></svg><div class="legend"></div><div class="tip" role="status" hidden></div>`;
  const [svg, list, tip] = box.children, [low, high] = range(values);
  let width = 0, left = 0, right = 12;
  const top = 16, bottom = 24;
  const scale = {
    x: (at) => left + ((at - x.from) / (x.to - x.from)) * (width - left - right),
    y: (us) => top + (1 - Math.log(Math.max(us, low) / low) / Math.log(high / low)) * (height - top - bottom),
    end: () => width - right, foot: height - bottom, top,
  };
  const at = (px) => x.from + ((px - left) / (width - left - right)) * (x.to - x.from);
  function paint() {
    width = Math.max(260, box.clientWidth);
    left = width < 520 ? 58 : 64;
    const out = [];
    for (const mark of marks) out.push(mark(scale, width));
    const wide = Math.log10(high / low) > 2.2;
    for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) for (const n of [1, 2, 5]) {
      const us = n * power, py = scale.y(us).toFixed(1);
      if (us < low * 0.999 || us > high * 1.001) continue;
      out.push(`<path d="M${left} ${py}H${scale.end()}" stroke="var(--line)" opacity="${n === 1 ? 1 : 0.55}"/>`);
      if (n === 1 || !wide) out.push(`<text x="${left - 8}" y="${+py + 4}" text-anchor="end">${tick(us)}</text>`);
    }
    for (const [value, caption] of x.ticks(width)) {
      const px = scale.x(value), anchor = px > scale.end() - 14 ? "end" : "middle";
      out.push(`<path d="M${px.toFixed(1)} ${scale.foot}v5" stroke="var(--soft)"/><text x="${px.toFixed(1)}" y="${height - 5}" text-anchor="${anchor}">${caption}</text>`);
    }
    out.push(`<path d="M${left} ${scale.foot}H${scale.end()}" stroke="var(--soft)" opacity=".6"/>`);
    out.push(`${draw(scale, width)}<path class="at" stroke="var(--soft)" stroke-dasharray="2 3" display="none"/>`);
    svg.setAttribute("height", height);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.innerHTML = out.join("");
  }
  list.innerHTML = legend.map(([caption, color, dash, box_]) => `<span><svg viewBox="0 0 22 10" aria-hidden="true">${box_ ? `<rect width="22" height="10" rx="2" fill="${color}" opacity="${box_}"/>` : `<path d="M0 5H22" stroke="${color}" stroke-width="2.4" stroke-dasharray="${dash || ""}"/>`}</svg>${safe(caption)}</span>`).join("");
  const hide = () => { tip.hidden = true; svg.querySelector(".at")?.setAttribute("display", "none"); };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
  function point(event) {
    const frame = svg.getBoundingClientRect(), px = event.clientX - frame.left, shown = px >= left && px <= scale.end() + 4 && valuesAt(at(px));
    if (!shown) return hide();
    const line = svg.querySelector(".at"), lx = scale.x(shown.at).toFixed(1);
    line.setAttribute("d", `M${lx} ${top}V${scale.foot}`);
    line.setAttribute("display", "inline");
    tip.textContent = shown.caption;
    tip.hidden = false;
    tip.style.left = Math.max(0, Math.min(px + 14, frame.width - tip.offsetWidth - 4)) + "px";
    tip.style.top = Math.max(0, Math.min(event.clientY - frame.top + 14, height - tip.offsetHeight)) + "px";
  }
  let drawn = 0;
  new ResizeObserver(() => { if (Math.abs(box.clientWidth - drawn) > 1) { drawn = box.clientWidth; hide(); paint(); } }).observe(box);
  drawn = box.clientWidth;
  paint();
}

const path = (points, scale) => points.map(([at, us], index) => `${index ? "L" : "M"}${scale.x(at).toFixed(1)} ${scale.y(us).toFixed(1)}`).join("");
const stroke = (d, color, dash = "", more = "") => `<path d="${d}" fill="none" stroke="${color}" stroke-width="2.2" stroke-linejoin="round" stroke-linecap="round" stroke-dasharray="${dash}" ${more}/>`;
const nearest = (list, at, key = (point) => point[0]) => list.reduce((best, point) => (!best || Math.abs(key(point) - at) < Math.abs(key(best) - at) ? point : best), null);

// Horizontal lines at the quorum's round trip, and at its plain write if that is slower.
const baselines = (isNamed) => [[data.cost.round_trip_us, "the round trip to a quorum"], [data.cost.write_us, "the plain write on a quorum"]]
  .filter(([us], index) => us && (!index || us > data.cost.round_trip_us * 1.25))
  .map(([us, caption]) => (scale) => {
    const y = scale.y(us).toFixed(1), label = isNamed ? `<text class="label" x="${scale.end()}" y="${y - 5}" text-anchor="end">${caption}</text>` : "";
    return `<path d="M${scale.x(0)} ${y}H${scale.end()}" stroke="var(--ink)" stroke-dasharray="1 4" stroke-width="1.6" stroke-linecap="round"/>${label}`;
  });

function curves() {
  const NINES = ["0", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"];
  const list = chart.curves, most = Math.max(1, ...list.flatMap(([, points]) => points.map(([nines]) => nines)));
  const style = (index) => [hue(index % 4 < 2 || list.length === 4 && list[1][0].includes("nodes") ? index : index - 2), list[index][0].startsWith("release") ? DASHES[2] : ""];
  // As many ticks as fit, beginning with the highest percentile.
  const ticks = (width) => {
    const all = [[Math.log10(2), "50 %"], ...NINES.map((caption, index) => [index, caption]).slice(1).filter(([index]) => index <= most + 0.01)];
    const room = (width - (width < 520 ? 70 : 76)) / most, wide = (caption) => caption.length * 6.4 + 10, shown = [];
    let free = Infinity;
    for (const [at, caption] of all.reverse()) {
      // The last one may end at the edge; see below.
      const halfWidth = wide(caption) / 2, isAtEnd = (most - at) * room < 14;
      if (at * room + (isAtEnd ? 0 : halfWidth) > free) continue;
      shown.push([at, caption]);
      free = at * room - halfWidth * (isAtEnd ? 2 : 1);
    }
    return shown;
  };
  plot("curves", 330, list.flatMap(([, points]) => points.map(([, us]) => us)).concat(data.cost.round_trip_us || []), { from: 0, to: most, ticks },
    baselines(true),
    (scale) => list.map(([, points], index) => stroke(path(points, scale), ...style(index))).join(""),
    list.map(([caption], index) => [caption, ...style(index)]),
    (at) => {
      const share = 100 * (1 - 10 ** -at), digits = Math.max(0, Math.ceil(at) - 1);
      const lines = list.flatMap(([caption, points]) => (at > points.at(-1)[0] + 0.02 ? [] : [`${caption}: ${span(nearest(points, at)[1])}`]));
      return lines.length ? { at, caption: [`${share.toFixed(digits)} % took no longer than`, ...lines].join("\n") } : null;
    });
}

// Marks the phase with one task, and the time of the dead node.
function phases(scale, width) {
  const out = [], end = scale.x(chart.alone_seconds), height = scale.foot - scale.top;
  out.push(`<rect x="${scale.x(0)}" y="${scale.top}" width="${end - scale.x(0)}" height="${height}" fill="var(--alone)"/><text x="${scale.x(0) + 4}" y="${scale.top - 4}">alone</text><text x="${end + 4}" y="${scale.top - 4}">${safe(data.load_label)}</text>`);
  const killed = chart.killed;
  if (killed) {
    out.push(`<rect x="${scale.x(killed[0])}" y="${scale.top}" width="${scale.x(killed[1]) - scale.x(killed[0])}" height="${height}" fill="var(--down)"/>`);
    for (const [at, caption] of [[killed[0], width < 520 ? "killed" : `${killed[2]} killed`], [killed[1], "restarted"]])
      out.push(`<path d="M${scale.x(at)} ${scale.top}V${scale.foot}" stroke="var(--bad)" stroke-width="1.5"/><text x="${scale.x(at) + 4}" y="${scale.top - 4}" style="fill:var(--bad)">${safe(caption)}</text>`);
    if (killed[3] !== null) out.push(`<path d="M${scale.x(killed[3])} ${scale.top}V${scale.foot}" stroke="var(--soft)" stroke-dasharray="3 3"/><text class="label" x="${scale.x(killed[3]) + (scale.x(killed[3]) > width - 90 ? -5 : 5)}" y="${scale.top + 12}" text-anchor="${scale.x(killed[3]) > width - 90 ? "end" : "start"}">votes again</text>`);
  }
  return out.join("");
}

function seconds(width) {
  const goal = chart.seconds / Math.max(3, width / 90), power = 10 ** Math.floor(Math.log10(goal));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= goal), out = [];
  for (let at = 0; at <= chart.seconds * 1.0001; at += step) out.push([at, `${+at.toFixed(2)} s`]);
  return out;
}
const clock = { from: 0, to: chart.seconds, ticks: seconds };

function times() {
  const { slices } = chart, color = hue(0);
  // Two lines: one task and all tasks are not connected.
  const segments = [slices.filter(([at]) => at < chart.alone_seconds), slices.filter(([at]) => at >= chart.alone_seconds)].filter((segment) => segment.length);
  plot("times", 280, slices.flatMap(([, median, most]) => [median, most]).concat(data.cost.round_trip_us || []), clock,
    [phases, ...baselines(false)],
    (scale) => segments.map((segment) => {
      const band = path(segment.map(([at, median]) => [at, median]), scale) + path(segment.map(([at, , most]) => [at, most]).reverse(), scale).replace("M", "L") + "Z";
      return `<path d="${band}" fill="${color}" opacity=".22"/>` + stroke(path(segment.map(([at, median]) => [at, median]), scale), color);
    }).join(""),
    [["median", color], ["up to p99", color, "", 0.3], ["round trip or write of the quorum", "var(--ink)", "1 4"]],
    (at) => {
      const slice = nearest(slices, at);
      return slice && { at: slice[0], caption: `${slice[0].toFixed(2)} s\nmedian ${span(slice[1])}, p99 ${span(slice[2])}\nmax ${span(slice[3])}${slice[0] < chart.alone_seconds ? "" : `\n${Math.round(slice[4])} locks/s`}` };
    });
}

function nodes() {
  const all = chart.nodes;
  const runs = (points) => points.reduce((runs, [at, us]) => (us === null ? [...runs, []] : [...runs.slice(0, -1), [...runs.at(-1), [at, us]]]), [[]]).filter((run) => run.length);
  const caption = (index) => data.nodes[index].node + (data.nodes[index].rank === data.quorum && all.length > 1 ? " (the quorum's last)" : "");
  const width = (index) => (data.nodes[index].rank === data.quorum ? 'style="stroke-width:3px"' : 'opacity=".85"');
  plot("nodes", 280, all.flatMap((points) => points.map(([, us]) => us)), clock, [phases],
    (scale) => all.map((points, index) => runs(points).map((run) => stroke(path(run.length > 1 ? run : [run[0], run[0]], scale), hue(index), "", width(index))).join("")).join(""),
    all.map((_, index) => [caption(index), hue(index)]),
    (at) => {
      const near = all.map((points, index) => [index, nearest(points, at)]).filter(([, point]) => point);
      if (!near.length) return null;
      near.sort((one, other) => (one[1][1] ?? Infinity) - (other[1][1] ?? Infinity));
      return { at: near[0][1][0], caption: [`${near[0][1][0].toFixed(2)} s`, ...near.map(([index, [, us]]) => `${data.nodes[index].node}: ${us === null ? "no reply" : span(us)}`)].join("\n") };
    });
}

curves();
times();
nodes();

// Small things that the other parts use. All text is set as text: nothing in this page ever becomes HTML.

function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "class") element.className = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

const find = (id) => document.getElementById(id);

// A text whose direction is its own: a title from right to left must not turn what stands beside it.
const isolated = (text) => make("bdi", {}, text);

async function unpack(block) {
  const bytes = Uint8Array.from(atob(block.textContent), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

// The table's columns, from the blocks that hold some hundred rows each.
async function joined(blocks) {
  const parts = await Promise.all([...blocks].map(unpack));
  return Object.fromEntries(Object.keys(parts[0]).map((name) => [name, parts.flatMap((part) => part[name])]));
}

// Two ways to what belongs to single experiments, by their id: unpacked from the page, so many together, or asked for where the
// page came from. What was seen once is kept.
function packed(rows, blocks, size) {
  const index = new Map(rows.id.map((id, i) => [id, i])), unpacked = new Map();
  return async (id) => {
    const chunk = Math.floor(index.get(id) / size);
    if (!unpacked.has(chunk)) unpacked.set(chunk, unpack(blocks[chunk]));
    return (await unpacked.get(chunk))[index.get(id) % size];
  };
}

function asked() {
  const known = new Map();
  return async (id) => {
    if (!known.has(id)) {
      const answer = await fetch("experiment/" + id, { cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      known.set(id, await answer.json());
    }
    return known.get(id);
  };
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const FONT = '12px ui-sans-serif, system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';

function duration(seconds) {
  if (seconds >= 5400) return (seconds / 3600).toFixed(1) + " h";
  if (seconds >= 100) return Math.round(seconds / 60) + " min";
  return seconds.toFixed(seconds >= 10 ? 0 : 1) + " s";
}

function dollars(usd) {
  if (usd === null) return "";
  return usd >= 0.1 || usd === 0 ? usd.toFixed(2) : usd >= 0.0001 ? usd.toPrecision(2) : "<0.0001";
}

// Axes in the colours of the page; canvases do not know CSS, so charts are made anew when the theme changes.
function axis(label, more) {
  const grid = { stroke: color("--line"), width: 1 };
  const look = { stroke: color("--quiet"), grid, ticks: { show: false }, font: FONT, labelFont: FONT };
  return { ...look, ...(label ? { label, labelSize: 22 } : {}), ...more };
}

const charts = new Set();

// A chart that follows the width of its host and the theme; `draw(width)` makes it. Returns a function that ends it.
function living(host, draw) {
  let chart = null, width = 0;
  const redraw = () => {
    if (chart) chart.destroy();
    width = Math.floor(host.clientWidth);
    chart = width > 40 ? draw(width) : null;
  };
  const observer = new ResizeObserver(() => { if (Math.floor(host.clientWidth) !== width) redraw(); });
  observer.observe(host);
  charts.add(redraw);
  redraw();
  return () => { observer.disconnect(); charts.delete(redraw); if (chart) chart.destroy(); };
}

function redrawAll() { charts.forEach((redraw) => redraw()); }

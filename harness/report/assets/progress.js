// The progress picture: every experiment a point, the running best a line with its uncertainty, titles of the kept ones.

const SLOPE = Math.PI / 6, LABEL = 40, NEAR = 26;
let zoom = null; // the experiments that the reader has chosen to see, whatever the picture is drawn anew for

function progress(host, rows, picture, open) {
  const count = rows.id.length, numbers = rows.id.map(Number), [low, high] = picture.view;
  const blank = () => new Array(count).fill(null);
  const best = blank(), above = blank(), below = blank(), kept = blank(), discarded = blank(), waiting = blank(), failed = blank();
  const values = new Map(picture.kept.map((point) => [point[0], point[1]]));
  let now = null, next = 0;
  for (let i = 0; i < count; i++) {
    while (next < picture.kept.length && picture.kept[next][4] <= numbers[i]) now = picture.kept[next++];
    if (now) [best[i], above[i], below[i]] = [now[1], Math.min(high, now[1] + 2 * now[2]), Math.max(low, now[1] - 2 * now[2])];
    if (values.has(numbers[i])) kept[i] = values.get(numbers[i]);
    else if (rows.status[i] === "waiting") waiting[i] = rows.value[i];
    else if (["discard", "rejected", "accepted"].includes(rows.status[i])) discarded[i] = rows.value[i];
    else if (rows.status[i] === "crash" || rows.status[i] === "invalid") failed[i] = true;
  }
  // Where a point is drawn: one that is out of view, or failed, stands at the worse edge.
  const height = (i) => {
    const value = kept[i] ?? waiting[i] ?? discarded[i];
    if (value === null) return failed[i] ? (picture.lower ? high : low) : null;
    return Math.min(high, Math.max(low, value));
  };

  const edges = (u) => {
    const context = u.ctx, size = devicePixelRatio, [left, right] = [u.scales.x.min, u.scales.x.max];
    const inward = picture.lower ? 1 : -1, edge = u.valToPos(picture.lower ? high : low, "y", true);
    context.save();
    for (let i = 0; i < count; i++) {
      if (numbers[i] < left || numbers[i] > right) continue;
      const x = u.valToPos(numbers[i], "x", true);
      if (failed[i]) {
        context.fillStyle = color0.failed + (count > 800 ? "80" : "");
        context.fillRect(x - size, edge + (inward > 0 ? 0 : -9 * size), Math.max(1, (count > 800 ? 1 : 2) * size), 9 * size);
      } else if (discarded[i] !== null && (discarded[i] < low || discarded[i] > high)) {
        context.fillStyle = color0.discard;
        const y = edge + inward * 2 * size;
        context.beginPath();
        context.moveTo(x - 4 * size, y + inward * 6 * size);
        context.lineTo(x + 4 * size, y + inward * 6 * size);
        context.lineTo(x, y);
        context.fill();
      }
    }
    context.restore();
  };

  // Titles rise beside their points as far as there is room, the largest gains first; as in progress.py.
  const labels = (u) => {
    const context = u.ctx, size = devicePixelRatio, up = picture.lower ? 1 : -1;
    const shown = picture.kept.filter((point) => point[0] >= u.scales.x.min && point[0] <= u.scales.x.max && point[0] > 0);
    const cosine = Math.cos(SLOPE), sine = Math.sin(SLOPE), half = 8 * size, gap = 10 * size;
    const place = (point) => [u.valToPos(point[0], "x", true), u.valToPos(point[1], "y", true)];
    const turned = ([x, y]) => [x * cosine - up * y * sine, y * cosine + up * x * sine];
    const taken = picture.kept.map((point) => { const [a, b] = turned(place(point)); return [a - 3 * size, b - 3 * size, a + 3 * size, b + 3 * size]; });
    context.save();
    context.font = `${12 * size}px ui-sans-serif, system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif`;
    context.textBaseline = "middle";
    context.lineWidth = 3 * size;
    context.lineJoin = "round";
    context.strokeStyle = color0.paper;
    context.fillStyle = color0.ink;
    for (const point of [...shown].sort((one, other) => other[3] - one[3])) {
      const title = rows.title[numbers.indexOf(point[0])] || "", own = picture.kept.indexOf(point);
      const text = title.length > LABEL ? title.slice(0, LABEL - 1).trimEnd() + "…" : title;
      const width = context.measureText(text).width, at = place(point), [a, b] = turned(at);
      for (const side of [1, -1]) {
        const [near, far] = [side * gap, side * (gap + width)];
        const box = [a + Math.min(near, far), b - half, a + Math.max(near, far), b + half];
        const [endX, endY] = [at[0] + far * cosine, at[1] - up * far * sine], frame = u.bbox;
        const inside = endX > frame.left + half && endX < frame.left + frame.width - half && endY > frame.top + half && endY < frame.top + frame.height - half;
        const free = !taken.some((other, i) => i !== own && box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3]);
        if (!inside || !free) continue;
        taken.push(box);
        context.save();
        context.translate(at[0], at[1]);
        context.rotate(-up * SLOPE);
        context.textAlign = side > 0 ? "left" : "right";
        context.direction = "ltr";
        context.strokeText(text, near, 0);
        context.fillText(text, near, 0);
        context.restore();
        break;
      }
    }
    context.restore();
  };

  let color0 = {};
  const tip = make("div", { class: "tip", hidden: "" }), ring = make("div", { class: "ring", hidden: "" });

  const nearest = (u, x, y) => {
    let found = -1, least = NEAR * NEAR;
    const from = u.posToVal(x - NEAR, "x"), to = u.posToVal(x + NEAR, "x");
    for (let i = 0; i < count; i++) {
      if (numbers[i] < from || numbers[i] > to || height(i) === null) continue;
      const distance = (u.valToPos(numbers[i], "x") - x) ** 2 + (u.valToPos(height(i), "y") - y) ** 2;
      if (distance <= least) [found, least] = [i, distance];
    }
    return found;
  };

  const point = (u, event) => {
    const bounds = u.over.getBoundingClientRect(), found = nearest(u, event.clientX - bounds.left, event.clientY - bounds.top);
    tip.hidden = ring.hidden = found < 0;
    u.over.style.cursor = found < 0 ? "crosshair" : "pointer";
    if (found < 0) return found;
    const gain = rows.believed[found] ? `, gain ${rows.believed[found]}` : "";
    const chance = rows.chance[found] ? `, real: ${rows.chance[found]}` : "";
    tip.replaceChildren(
      make("b", {}, isolated(rows.title[found])),
      make("span", { class: "status " + rows.status[found] }, rows.status[found]), ` ${rows.shown[found]}${gain}${chance}`,
      make("div", { class: "quiet" }, `${rows.id[found]}, `, isolated(rows.agent[found])),
    );
    const x = u.valToPos(numbers[found], "x") + u.over.offsetLeft, y = u.valToPos(height(found), "y") + u.over.offsetTop;
    ring.style.left = x + "px";
    ring.style.top = y + "px";
    tip.style.left = Math.max(0, Math.min(x + 16, host.clientWidth - tip.offsetWidth - 4)) + "px";
    tip.style.top = (y > 120 ? y - tip.offsetHeight - 14 : y + 18) + "px";
    return found;
  };

  const dots = (name, size) => ({ paths: () => null, points: { show: true, size, width: 0, fill: color(name), stroke: color(name) } });
  const end = living(host, (width) => {
    color0 = { failed: color("--failed"), discard: color("--discard"), paper: color("--paper"), ink: color("--ink") };
    const green = color("--kept"), stepped = uPlot.paths.stepped({ align: 1 }), many = count > 800;
    const chart = new uPlot({
      width, height: Math.round(Math.max(280, Math.min(480, width * 0.44))), legend: { show: false }, padding: [12, 8, 0, 0],
      cursor: { x: false, y: false, points: { show: false }, drag: { x: true, y: false } },
      scales: { x: { time: false, range: (u, from, to) => { const pad = 0.015 * (to - from || 1); return [from - pad, to + pad]; } }, y: { range: [low, high] } },
      axes: [axis("experiment", { size: 34, space: 56, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 1e4] }), axis("", { size: 70 })],
      series: [
        {}, { paths: stepped, width: 0, points: { show: false } }, { paths: stepped, width: 0, points: { show: false } },
        { paths: stepped, stroke: green, width: 2, points: { show: false } },
        dots("--discard", many ? 4 : 6), dots("--open", 9), dots("--kept", 9),
      ],
      bands: [{ series: [1, 2], fill: green + "26" }],
      hooks: { draw: [edges, labels], setSelect: [(u) => { if (u.select.width) zoom = [u.select.left, u.select.left + u.select.width].map((x) => u.posToVal(x, "x")); }] },
    }, [numbers, above, below, best, discarded, waiting, kept], host);
    if (zoom) chart.setScale("x", { min: zoom[0], max: zoom[1] });
    host.append(tip, ring);
    chart.over.addEventListener("dblclick", () => { zoom = null; });
    chart.over.addEventListener("mousemove", (event) => point(chart, event));
    chart.over.addEventListener("mouseleave", () => { tip.hidden = ring.hidden = true; });
    let pressed = 0;
    chart.over.addEventListener("mousedown", (event) => { pressed = event.clientX; });
    chart.over.addEventListener("click", (event) => {
      const found = Math.abs(event.clientX - pressed) < 4 ? point(chart, event) : -1;
      if (found >= 0) open(rows.id[found]);
    });
    return chart;
  });
  return () => { end(); tip.remove(); ring.remove(); };
}

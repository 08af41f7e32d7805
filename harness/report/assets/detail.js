// One experiment with all its evidence, in a panel; what it shows is unpacked when somebody asks for it.

function detail(neighbours, close, open) {
  const panel = find("detail");
  let rows = { id: [] }, read = null, index = new Map(), wanted = "", current = "", end = () => {};

  const titled = (heading, ...content) => make("section", {}, make("h3", {}, heading), ...content);
  const facts = (pairs) => make("dl", { class: "facts" }, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, isolated(value))]));

  const code = (pieces) => make("code", {}, ...(pieces.length ? pieces : [["", " "]]).map(([kind, text]) =>
    kind ? make("span", { class: kind.replace("!", "") + (kind.endsWith("!") ? " mark" : "") }, text) : text));
  const hunk = ({ at, lines }) => [make("div", { class: "at" }, at),
    ...lines.map(([sign, pieces]) => make("div", { class: { "+": "add", "-": "del" }[sign] || "same" }, code(pieces)))];
  const diff = (files, id) => titled("Change", ...files.flatMap((file) => [
    make("p", { class: "file" }, file.name),
    make("div", { class: "diff", tabindex: "0", role: "region", "aria-label": "Changes of " + file.name }, ...file.hunks.flatMap(hunk)),
    file.more ? make("p", { class: "quiet" }, "The rest is left out here: ", make("code", {}, "harness diff " + id), " shows all of it.") : null,
  ]));

  const runs = (found) => titled("Runs", make("div", { class: "wide runs", tabindex: "0", role: "region", "aria-label": "Runs" }, make("table", {},
    make("thead", {}, make("tr", {}, ...["seed", "status", "value", "time", "CPU", "memory", "audit"].map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...found.map((run) => make("tr", {},
      make("td", {}, run.seed), make("td", {}, make("span", { class: "status " + (run.status === "ok" ? "keep" : run.status) }, run.status)),
      make("td", {}, run.value), make("td", {}, run.time), make("td", {}, run.cpu), make("td", {}, run.memory),
      make("td", run.audit ? { class: run.audit.passed ? "passed" : "refused" } : {}, run.audit ? run.audit.summary : "none")))))),
    ...found.filter((run) => run.reason).map((run) => make("p", { class: "quiet" }, `seed ${run.seed}: ${run.reason}`)));

  const curve = (mine, theirs, other) => {
    const host = make("div", { class: "curve", role: "img", "aria-label": "Loss by step" });
    const legend = make("p", { class: "legend" }, make("span", { class: "best" }, "this experiment"), theirs ? make("span", {}, `the incumbent, ${other}`) : null);
    const steps = [...new Set([...mine[0], ...(theirs ? theirs[0] : [])])].sort((a, b) => a - b);
    const along = ([xs, ys]) => { const at = new Map(xs.map((x, i) => [x, ys[i]])); return steps.map((x) => (at.has(x) ? at.get(x) : null)); };
    const data = [steps, ...(theirs ? [along(theirs)] : []), along(mine)];
    // The first tenth falls from such a height that it would flatten the rest.
    const late = data.slice(1).flatMap((ys) => ys.filter((y, i) => y !== null && i >= steps.length * 0.08)), [low, high] = [Math.min(...late), Math.max(...late)];
    const line = (name) => ({ stroke: color(name), width: 1.8, spanGaps: true, points: { show: false } });
    const start = () => { end = living(host, (width) => new uPlot({
      width, height: 240, legend: { show: false }, cursor: { show: false }, padding: [8, 8, 0, 0],
      scales: { x: { time: false }, y: { range: [low - 0.05 * (high - low || 1), high + 0.05 * (high - low || 1)] } },
      axes: [axis("step", { size: 34 }), axis("", { size: 60 })], series: [{}, ...(theirs ? [line("--discard")] : []), line("--kept")],
    }, data, host)); };
    return [titled("Learning curve", legend, host), start];
  };

  const evidence = (found) => titled("Evidence of the last run", make("div", { class: "evidence" }, ...found.map(([heading, pairs]) =>
    make("section", {}, make("h4", {}, heading), ...pairs.map(([name, value]) => make("div", {}, make("span", {}, name), make("span", {}, isolated(value))))))));

  const reproduce = (it) => {
    const lines = [`harness show ${it.id} --tag ${panel.dataset.tag}`];
    if (it.commit) lines.push(`git show ${it.commit}`);
    if (it.merge) lines.push(`git cherry-pick -m 1 ${it.merge}`);
    return titled("In git", make("pre", { class: "log", tabindex: "0" }, lines.join("\n")));
  };

  const step = (id, by, label, name) => {
    const other = neighbours(id, by);
    return make("button", { type: "button", "aria-label": label, disabled: other === undefined ? "" : null, onclick: () => open(other) }, name);
  };

  const looks = (it, i) => JSON.stringify([it, rows.status[i]]);

  async function show(id, again = false) {
    const i = index.get(id);
    wanted = id;
    let it = null, other = null;
    try {
      it = await read(id);
      other = it.curve && it.incumbent ? await read(it.incumbent) : null;
    } catch {
      it = { id, reason: "harness serve does not answer", runs: [], evidence: [], facts: [] };
    }
    if (wanted !== id) return; // another one was opened meanwhile
    end();
    end = () => {};
    current = looks(it, i);
    panel.dataset.id = id;
    const top = again ? panel.scrollTop : 0;
    const [drawn, start] = it.curve ? curve(it.curve, other && other.curve, it.incumbent) : [null, () => {}];
    panel.replaceChildren(...[
      make("nav", { "aria-label": "Experiments" }, make("span", { class: "id" }, id), step(id, -1, "Previous experiment", "←"), step(id, 1, "Next experiment", "→"),
        make("button", { type: "button", onclick: close }, "Close")),
      make("h2", { id: "detail-title", tabindex: "-1", autofocus: "" }, isolated(rows.title[i])),
      make("p", { class: "reason" }, make("span", { class: "status " + rows.status[i] }, rows.status[i]), " ", isolated(it.reason)),
      it.hypothesis ? make("p", { class: "hypothesis", dir: "auto" }, it.hypothesis) : null,
      facts(it.facts),
      it.diff ? diff(it.diff, id) : null,
      drawn,
      it.runs.length ? runs(it.runs) : null,
      it.evidence.length ? evidence(it.evidence) : null,
      ...(it.logs || []).map(([heading, text]) => titled(heading, make("pre", { class: "log", tabindex: "0", dir: "ltr" }, text))),
      it.lean ? make("p", { class: "quiet" }, "Diff, curve and logs of this one are in git alone: the file would be too large with those of all. ", make("code", {}, "harness serve"), " shows them as well.") : null,
      reproduce(it),
    ].filter(Boolean));
    if (!panel.open) panel.showModal();
    else if (!again) find("detail-title").focus();
    start();
    panel.scrollTop = top;
  }

  // Other data; what is open is shown anew only where it is not the same any more.
  const renew = async (found, reader) => {
    [rows, read, index] = [found, reader, new Map(found.id.map((id, i) => [id, i]))];
    const id = panel.dataset.id;
    if (panel.open && index.has(id) && looks(await read(id), index.get(id)) !== current) await show(id, true);
  };
  return { show, renew };
}

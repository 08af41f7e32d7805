// The table of all experiments: filtered and sorted over columns of plain values, drawn a hundred rows or more at a time.

const BATCH = 100, PRINTED = 1000;
const COLUMNS = [
  ["id", "#", "id", (rows, i) => rows.id[i]],
  ["status", "status", "what", null],
  ["title", "title", "title", null],
  ["agent", "agent", "agent", null],
  ["value", "value", "value n", (rows, i) => rows.shown[i]],
  ["gain", "gain", "gain n", (rows, i) => rows.believed[i]],
  ["probability", "real", "probability n", (rows, i) => rows.chance[i]],
  ["seconds", "time", "seconds n", (rows, i) => duration(rows.seconds[i])],
  ["usd", "USD", "usd n", (rows, i) => dollars(rows.usd[i])],
];

function table(open) {
  const body = find("table").tBodies[0], head = find("table").tHead.rows[0], more = find("more");
  const state = { text: "", agent: "", statuses: new Set(), by: "id", falling: false };
  let rows = { id: [] }, columns = [], haystack = [], order = [], drawn = 0;
  let made = new Map(); // by id: what a drawn row says, and its element

  const cell = ([name, , look, shown], i) => {
    if (name === "status") return make("td", { class: "what" }, make("span", { class: "status " + rows.status[i] }, rows.status[i]));
    if (name === "title") return make("td", { class: look }, make("a", { href: "#" + rows.id[i] }, isolated(rows.title[i])));
    if (name === "agent") return make("td", { class: look, title: rows.agent[i] }, isolated(rows.agent[i]));
    return make("td", { class: look }, shown(rows, i));
  };
  // The row of an experiment: the one that is there as long as it says the same, so that a later page redraws what changed.
  const line = (i) => {
    const id = rows.id[i], says = JSON.stringify([rows.status[i], rows.title[i], rows.agent[i], ...columns.map(([, , , shown]) => shown && shown(rows, i))]);
    const old = made.get(id);
    if (old && old.says === says) return old.row;
    const row = make("tr", {}, ...columns.map((column) => cell(column, i)));
    row.addEventListener("click", (event) => { if (!event.target.closest("a")) open(id); });
    if (old) old.row.replaceWith(row);
    made.set(id, { says, row });
    return row;
  };
  // A browser lays out the whole table for each batch, so batches grow with it.
  const grow = (by = Math.max(BATCH, drawn >> 2)) => {
    const rest = order.slice(drawn, drawn + by);
    body.append(...rest.map(line));
    drawn += rest.length;
    more.hidden = drawn >= order.length;
  };
  // As many rows as there are to be, moving only those that stand elsewhere.
  const fill = (count) => {
    const shown = order.slice(0, count).map((i) => [rows.id[i], line(i)]);
    let at = body.firstChild;
    for (const [, row] of shown) {
      if (row === at) at = at.nextSibling;
      else body.insertBefore(row, at);
    }
    const gone = document.createRange();
    if (at) {
      gone.setStartBefore(at);
      gone.setEndAfter(body.lastChild);
      gone.deleteContents();
    }
    made = new Map(shown.map(([id]) => [id, made.get(id)]));
    drawn = shown.length;
    more.hidden = drawn >= order.length;
  };
  const compare = (one, other) => {
    const [a, b] = [rows[state.by][one], rows[state.by][other]];
    if (a === b) return one - other;
    if (a === null || b === null) return a === null ? 1 : -1; // what has no value comes last either way
    const found = typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
    return state.falling ? -found : found;
  };
  const update = (least = 0) => {
    const words = state.text.toLowerCase().replaceAll("->", "→").split(/\s+/).filter(Boolean);
    order = rows.id.map((_, i) => i).filter((i) =>
      (!state.statuses.size || state.statuses.has(rows.status[i])) && (!state.agent || rows.agent[i] === state.agent)
      && words.every((word) => haystack[i].includes(word)));
    if (state.by !== "id") order.sort(compare);
    else if (state.falling) order.reverse();
    fill(Math.max(BATCH, least));
    const all = rows.id.length.toLocaleString("en");
    find("count").textContent = order.length === rows.id.length ? `${all} experiments, with the baseline` : `${order.length.toLocaleString("en")} of ${all}`;
  };

  const sorted = () => {
    for (const each of head.cells) each.removeAttribute("aria-sort");
    head.cells[columns.findIndex(([name]) => name === state.by)].setAttribute("aria-sort", state.falling ? "descending" : "ascending");
  };
  const heading = ([name, label, look]) => make("th", { class: look, scope: "col" }, make("button", {
    type: "button",
    onclick: () => {
      // Numbers are looked at from the top, names from the beginning; a lower metric may be the better one, so it starts low.
      state.falling = state.by === name ? !state.falling : ["gain", "probability", "seconds", "usd"].includes(name);
      state.by = name;
      sorted();
      update();
    },
  }, label));
  const agents = () => {
    const known = [...find("agent").options].map((option) => option.value), fresh = [...new Set(rows.agent)].filter((name) => !known.includes(name));
    find("agent").append(...fresh.sort().map((name) => make("option", { value: name }, name)));
  };
  const statuses = () => {
    const counts = new Map([...state.statuses].map((status) => [status, 0])), focused = find("statuses").contains(document.activeElement) && document.activeElement.value;
    rows.status.forEach((status) => counts.set(status, (counts.get(status) || 0) + 1));
    find("statuses").replaceChildren(find("statuses").firstElementChild, ...[...counts].sort().map(([status, count]) => make("label", {},
      make("input", {
        type: "checkbox", value: status, checked: state.statuses.has(status) ? "" : null,
        onchange: (event) => { state.statuses[event.target.checked ? "add" : "delete"](status); update(); },
      }), make("span", { class: "status " + status }, `${status} ${count.toLocaleString("en")}`))));
    if (focused) find("statuses").querySelector(`input[value="${focused}"]`).focus({ preventScroll: true });
  };
  // Other rows; what the reader has chosen, and how far the table is drawn, stays.
  const renew = (found) => {
    rows = found;
    const paid = rows.usd.some((usd) => usd !== null), sure = rows.probability.some((share) => share !== null);
    columns = COLUMNS.filter(([name]) => (name !== "usd" || paid) && (name !== "probability" || sure));
    haystack = rows.id.map((id, i) => `${id} ${rows.title[i]} ${rows.agent[i]} ${rows.words[i]}`.toLowerCase());
    if (head.cells.length !== columns.length) {
      head.replaceChildren(...columns.map(heading));
      body.replaceChildren();
      made.clear();
    }
    sorted();
    agents();
    statuses();
    update(drawn);
  };

  find("text").addEventListener("input", (event) => { state.text = event.target.value; update(); });
  find("agent").addEventListener("change", (event) => { state.agent = event.target.value; update(); });
  find("filters").addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => grow());
  new IntersectionObserver((seen) => { if (seen.some((each) => each.isIntersecting)) grow(); }, { rootMargin: "600px" }).observe(more);
  addEventListener("beforeprint", () => grow(Math.max(0, PRINTED - drawn)));
  return { renew, beside: (id, step) => { const at = order.findIndex((i) => rows.id[i] === id); return at < 0 ? undefined : rows.id[order[at + step]]; } };
}

// What happens when the page is opened, and what its address means: #0012 shows that experiment.

async function main() {
  if (typeof DecompressionStream === "undefined") throw new Error("This browser is too old for the table and the details: one of 2023 or later shows them.");
  const rows = await unpack(find("rows")), panel = find("detail"), known = new Set(rows.id);
  const open = (id) => { location.hash = id; };
  document.querySelectorAll(".scripted").forEach((section) => { section.hidden = false; });
  if (find("picture").textContent) progress(find("chart"), rows, await unpack(find("picture")), open);
  else find("progress").hidden = true;
  const listed = table(rows, open);
  const show = detail(rows, listed.beside, () => panel.close(), open);
  panel.addEventListener("close", () => { if (known.has(location.hash.slice(1))) history.replaceState(null, "", location.pathname + location.search); });
  panel.addEventListener("click", (event) => { if (event.target === panel && event.clientX < panel.getBoundingClientRect().left) panel.close(); });
  const follow = () => { const id = location.hash.slice(1); if (known.has(id)) show(id); else if (panel.open) panel.close(); };
  addEventListener("hashchange", follow);
  const theme = matchMedia("(prefers-color-scheme: dark)");
  theme.addEventListener("change", redrawAll);
  addEventListener("beforeprint", () => { document.documentElement.classList.add("printing"); redrawAll(); });
  addEventListener("afterprint", () => { document.documentElement.classList.remove("printing"); redrawAll(); });
  follow();
  document.documentElement.dataset.ready = "yes";
}

main().catch((error) => {
  document.querySelector("main").prepend(make("p", { class: "notice" }, String(error.message || error)));
});

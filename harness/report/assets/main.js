// What happens when the page is opened, and what its address means: #0012 shows that experiment.

async function main() {
  if (typeof DecompressionStream === "undefined") throw new Error("This browser is too old for the table and the details: one of 2023 or later shows them.");
  const panel = find("detail");
  const served = document.documentElement.dataset.version;
  let known = new Set(), end = () => {};
  const open = (id) => { location.hash = id; };
  document.querySelectorAll(".scripted").forEach((section) => { section.hidden = false; });
  const listed = table(open), shown = detail(listed.beside, () => panel.close(), open);
  // Everything that scripts draw, from the data blocks of a document: this page's own, or a later one of the same night.
  const draw = async (from) => {
    const block = from.getElementById("picture"), rows = await joined(from.querySelectorAll("script.rows"));
    const picture = block.textContent ? await unpack(block) : null; // before the old one goes: nothing is to flicker
    known = new Set(rows.id);
    end();
    end = picture ? progress(find("chart"), rows, picture, open) : () => {};
    find("progress").hidden = !picture;
    listed.renew(rows);
    await shown.renew(rows, served ? asked() : packed(rows, from.querySelectorAll("script.chunk"), Number(panel.dataset.chunk)));
  };
  await draw(document);
  panel.addEventListener("close", () => { if (known.has(location.hash.slice(1))) history.replaceState(null, "", location.pathname + location.search); });
  panel.addEventListener("click", (event) => { if (event.target === panel && event.clientX < panel.getBoundingClientRect().left) panel.close(); });
  const follow = () => { const id = location.hash.slice(1); if (known.has(id)) shown.show(id); else if (panel.open) panel.close(); };
  addEventListener("hashchange", follow);
  const theme = matchMedia("(prefers-color-scheme: dark)");
  theme.addEventListener("change", redrawAll);
  addEventListener("beforeprint", () => { document.documentElement.classList.add("printing"); redrawAll(); });
  addEventListener("afterprint", () => { document.documentElement.classList.remove("printing"); redrawAll(); });
  follow();
  if (served) live(draw);
  document.documentElement.dataset.ready = "yes";
}

main().catch((error) => {
  document.querySelector("main").prepend(make("p", { class: "notice" }, String(error.message || error)));
});

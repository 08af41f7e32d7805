// A page that `harness serve` shows keeps up with the night: it asks every two seconds what runs, and takes over
// the content of a later page when there is one. What the reader has opened, chosen, typed and scrolled to stays.

const EVERY_MS = 2000;

function live(draw) {
  const now = find("now"), list = now.querySelector("ul"), said = now.querySelector("p");
  let version = document.documentElement.dataset.version, timer = 0, asking = false, held = false, seen = new Date();

  const key = (element) => element.getAttribute("href") || element.getAttribute("aria-labelledby") || (element.cells && element.cells[0].textContent);
  const marks = () => [...document.querySelectorAll("main > section, .merges a, .ideas a, #table tbody tr")];
  const part = (element) => element.closest("section").getAttribute("aria-labelledby") + " " + key(element);
  const named = (details) => (details.querySelector("summary b, summary .id") || { textContent: "more" }).textContent;

  // A section of the later page in the place of ours, opened where ours is; ours stays when nothing differs.
  const replaced = (old, fresh) => {
    const opened = new Set([...old.querySelectorAll("details[open]")].map(named));
    for (const details of fresh.querySelectorAll("details")) details.open = opened.has(named(details));
    if (old.isEqualNode(fresh)) return;
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    old.replaceWith(fresh);
    if (focused) fresh.querySelector(`a[href="${CSS.escape(focused).replaceAll("\\#", "#")}"]`)?.focus({ preventScroll: true });
  };
  const sections = (later) => {
    const ours = new Map([...document.querySelectorAll("main > section")].map((each) => [key(each), each])), main = document.querySelector("main");
    let before = null;
    for (const fresh of [...later.querySelectorAll("main > section")]) {
      const old = ours.get(key(fresh));
      if (old && !old.matches(".scripted")) replaced(old, fresh);
      else if (!old) before ? before.after(fresh) : main.prepend(fresh);
      ours.delete(key(fresh));
      before = [...main.querySelectorAll(":scope > section")].find((each) => key(each) === key(fresh));
    }
    ours.forEach((gone) => gone.remove());
  };
  // Whatever comes and goes above, what the reader looks at stays where it is; not every browser sees to that.
  const steady = async (change) => {
    const first = marks().find((each) => each.getBoundingClientRect().top > -1), at = first && [part(first), first.getBoundingClientRect().top];
    await change();
    const same = at && marks().find((each) => part(each) === at[0]);
    if (same && scrollY > 0) scrollBy({ top: same.getBoundingClientRect().top - at[1], behavior: "instant" });
  };
  const adopt = async (later) => {
    replaced(document.querySelector("header"), later.querySelector("header"));
    sections(later);
    replaced(document.querySelector("#progress .legend"), later.querySelector("#progress .legend"));
    document.title = later.title;
    await draw(later);
    version = later.documentElement.dataset.version;
    document.documentElement.dataset.version = version;
  };
  // A document is parsed by the browser's own loader: this page has no way to make one of a string.
  const load = () => new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", location.pathname);
    request.responseType = "document";
    request.onload = () => (request.status === 200 && request.response ? resolve(request.response) : reject(new Error(String(request.status))));
    request.onerror = () => reject(new Error("no answer"));
    request.send();
  });

  const bar = (share) => make("progress", { max: "1", value: String(share), "aria-hidden": "true" });
  const line = (each) => make("li", {}, make("span", { class: "what" }, make("span", { class: "id" }, each.experiment), isolated(each.title), make("span", { class: "quiet" }, isolated(each.told))),
    each.share === null ? null : bar(each.share));
  const tell = (found) => {
    list.replaceChildren(...found.now.map(line));
    said.textContent = found.problem || found.state;
    now.dataset.running = found.running ? "yes" : "";
  };
  const busy = () => held || (getSelection() && !getSelection().isCollapsed && !find("detail").contains(getSelection().anchorNode));

  const look = async () => {
    if (asking || document.hidden) return;
    asking = true;
    clearTimeout(timer);
    try {
      const answer = await fetch("live", { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.status === 403 || answer.status === 404 ? "gone" : "");
      const found = await answer.json();
      await steady(() => tell(found));
      seen = new Date();
      if (found.version && found.version !== version && !busy()) {
        const later = await load();
        await steady(() => adopt(later));
      }
    } catch (error) {
      list.replaceChildren();
      now.dataset.running = "";
      said.textContent = error.message === "gone" ? "This address is no longer valid: open the one that harness serve printed last."
        : `harness serve does not answer: this is how it was at ${seen.toTimeString().slice(0, 5)}.`;
    }
    asking = false;
    timer = setTimeout(look, EVERY_MS);
  };
  for (const name of ["pointerdown", "pointermove", "pointerup"]) addEventListener(name, (event) => { held = event.buttons > 0; });
  document.addEventListener("visibilitychange", look);
  look();
}

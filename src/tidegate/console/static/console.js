// What makes the pages live: they read as well without it. No globals but htmx and echarts.
(() => {
  "use strict";
  const root = document.documentElement;
  const find = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  root.classList.add("scripted");

  // Colours: as the system, light, dark.
  const themes = ["system", "light", "dark"];
  const button = find("#theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = () => root.dataset.theme || "system";
  function named() {
    if (!button) return;
    button.hidden = false;
    const names = { system: "as the system", light: "light", dark: "dark" };
    button.setAttribute("aria-label", `Colours: ${names[theme()]}`);
    button.title = `Colours: ${names[theme()]}`;
    find("#theme-name").textContent = theme()[0].toUpperCase() + theme().slice(1);
  }
  button?.addEventListener("click", () => {
    const next = themes[(themes.indexOf(theme()) + 1) % themes.length];
    if (next === "system") {
      delete root.dataset.theme;
      localStorage.removeItem("tidegate-theme");
    } else {
      root.dataset.theme = next;
      localStorage.setItem("tidegate-theme", next);
    }
    named();
    document.dispatchEvent(new Event("tidegate:theme"));
  });
  dark.addEventListener("change", () => document.dispatchEvent(new Event("tidegate:theme")));
  named();

  // Times: the server says when, this says how long ago; the server's clock counts.
  let ahead = 0;
  const thin = "\u2009";
  function ago(seconds) {
    const passed = Math.abs(seconds);
    if (passed < 2) return "just now";
    const [size, unit] = passed < 59.5 ? [1, "s"] : passed < 3600 ? [60, "min"] : passed < 86400 ? [3600, "h"] : [86400, "d"];
    const length = `${size === 1 ? Math.round(passed) : Math.floor(passed / size)}${thin}${unit}`;
    return seconds > 0 ? `${length} ago` : `in ${length}`;
  }
  function tell() {
    const now = Date.now() / 1000 + ahead;
    for (const time of all("time[data-then]")) {
      const text = ago(now - Number(time.dataset.then));
      if (time.textContent !== text) time.textContent = text;
    }
  }
  function settled() {
    const now = (find("#live") ?? document.body).dataset.now;
    ahead = Number(now) - Date.now() / 1000;
    tell();
    for (const copy of all("[data-copy]")) copy.hidden = !navigator.clipboard;
  }
  setInterval(tell, 1000);

  // What changed is said once, not every two seconds.
  let said = find("#live")?.dataset.announce ?? "";
  function announce() {
    const says = find("#live")?.dataset.announce ?? "";
    if (says !== said) find("#announce").textContent = said = says;
  }

  // Live part.
  const dialog = find("#dialog");
  let lostSince = "";
  document.addEventListener("htmx:beforeRequest", (event) => {
    const polls = event.detail.elt.id === "live";
    if (polls && (document.hidden || dialog.open)) event.preventDefault();
    if (!polls) refused("");
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) document.body.dispatchEvent(new Event("look"));
  });
  function refused(text) {
    const notice = find("#refused");
    notice.hidden = !text;
    notice.textContent = text;
    if (text) notice.scrollIntoView({ block: "nearest" });
  }
  // What an answer that is no dialog says: the console's own page of an error, or a problem of the API.
  function problem(answer) {
    if (!answer?.status) return "The control plane does not answer. Try again in a moment.";
    let title = "";
    let detail = "";
    try {
      ({ title = "", detail = "" } = JSON.parse(answer.responseText));
    } catch {
      const page = new DOMParser().parseFromString(answer.responseText, "text/html");
      title = find("h1", page)?.textContent.trim() ?? "";
      detail = all("p", page).filter((told) => !find("a", told)).map((told) => told.textContent.trim()).join(" ");
    }
    return `${title || `The control plane answered ${answer.status}`}. ${detail}`.trim();
  }
  function lost(event) {
    if (event.detail.elt.id !== "live") return refused(problem(event.detail.xhr));
    lostSince ||= new Date().toLocaleTimeString();
    find("#lost-since").textContent = lostSince;
    find("#lost").hidden = false;
  }
  document.addEventListener("htmx:sendError", lost);
  document.addEventListener("htmx:timeout", lost);
  document.addEventListener("htmx:responseError", lost);
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id === "dialog") {
      if (!dialog.open) dialog.showModal();
      (find("[autofocus]", dialog) ?? find("button", dialog))?.focus();
      return;
    }
    lostSince = "";
    const notice = find("#lost");
    if (notice) notice.hidden = true;
    settled();
    announce();
  });
  if (window.Idiomorph) {
    // Plots belong to the script, open tables to the reader.
    Idiomorph.defaults.callbacks.beforeNodeMorphed = (was) => !(was.classList?.contains("plot"));
    Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) => !(name === "open" && node.tagName === "DETAILS");
  }
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) {
      event.preventDefault();
      dialog.close();
    }
  });
  document.addEventListener("click", async (event) => {
    const copy = event.target.closest("[data-copy]");
    if (!copy) return;
    await navigator.clipboard.writeText(find(`#${copy.dataset.copy}`).textContent);
    copy.textContent = "Copied";
  });
  document.addEventListener("keydown", (event) => {
    const link = event.target.closest?.('a[role="button"]');
    if (link && event.key === " ") {
      event.preventDefault();
      link.click();
    }
  });
  // A cell of the heat map leads to its feature in its window; the row's link does without a mouse.
  const heat = (event) => {
    const cell = event.target.closest?.("table[data-heat] td");
    if (!cell) return null;
    const row = find("th a", cell.parentElement);
    const head = find(`thead th:nth-child(${cell.cellIndex + 1})`, cell.closest("table"));
    return { cell, row, head };
  };
  document.addEventListener("mouseover", (event) => {
    const found = heat(event);
    if (!found) return;
    const start = new Date(Number(found.head.dataset.start) * 1000).toISOString();
    found.cell.title = `${found.row.textContent}, ${start.slice(0, 10)} ${start.slice(11, 16)} UTC: ${found.cell.textContent.trim()}`;
  });
  document.addEventListener("click", (event) => {
    const found = heat(event);
    if (!found || !found.cell.className) return;
    const wanted = new URL(found.row.href);
    wanted.searchParams.set("start", found.head.dataset.start);
    location.assign(wanted);
  });
  // Where there is little room, what is current is in sight.
  for (const current of all('nav [aria-current], .steps [aria-current]')) {
    const strip = current.closest("nav, .steps");
    const middle = current.getBoundingClientRect().left - strip.getBoundingClientRect().left - strip.clientWidth / 2;
    strip.scrollLeft += middle + current.clientWidth / 2;
  }
  for (const box of all(".heat-box")) box.scrollLeft = box.scrollWidth;
  settled();
})();
